// SPDX-License-Identifier: BSL-1.0
//
// A thread in async_to_sync, the loop that it drives or lends to a helper, and those who push to both.
//
//! mirrors src/loop.cpp loop::push loop::push_and_wake loop::wake loop::wake_driver
//! mirrors src/loop.cpp loop::try_drive loop::offer loop::release loop::ask_back
//! mirrors src/loop.cpp loop::keep_helper loop::help_out loop::turn loop::sleep loop::close
//! mirrors src/async_call_wait.cpp async_call::wait async_call::park
//! mirrors src/async_call.cpp async_call::finish async_call::tell_waiter
//! mirrors src/lane.cpp lane::push_nested lane::wake lane::forget_loops
//
// The root call is over when its thread-sensitive call, which blocks in a nested async_to_sync on the same loop, and its
// remote call have come back to the loop. Shown: at most one thread drives the loop; the thread-sensitive calls run on
// the owner, and all calls end, so no wake is lost (else somebody sleeps for ever, an invalid end state); nobody uses
// the io_context once it is closed, and what is pushed is run, dropped or handed back, exactly once.
//
// The lane's parker is taken to be what parker.pml shows it is: a token. Asio is a number of handlers that are ready.
// With FAR there are two thread-sensitive calls, which do not block, and one of them comes from another thread; with
// WAITS the second one does, in code that knows of no loop, until a handler of the loop has run. With
// CLOSES the owner's thread ends after that, while the remote call, of a task left behind, still comes.
//
//! check
//! check  FAR
//! check  FAR WAITS
//! check  NO_THREADS
//! check  CLOSES
//! refute LOOKS_BEFORE_IT_SAYS   the driver says that it sleeps only after its last look at what it waits for
//! refute TAKES_THE_MARK_AWAY_ONLY  who pushes while the driver sleeps does not wake it
//! refute ASKS_SILENTLY          the helper is asked to give the loop back, but not woken
//! refute FAR WAITS LOOKS_BEFORE_IT_HAS_COME  a helper that still counts as coming has looked whether it is wanted
//! refute GIVES_BACK_SILENTLY    the helper gives the loop back and does not wake the owner
//! refute ENDS_SILENTLY          a call that ends on the helper's thread does not wake the one who waits
//! refute FAR LEAVES_WHEN_KEPT   the helper leaves although the owner wants it to go on
//! refute KEEPS_THE_ROLE         a nested frame ends without offering the loop that it drives
//! refute DRIVES_UNASKED         the owner takes the loop while a helper has it
//! refute FAR WAKES_PARKER_ONLY  the owner is unparked while it sleeps in its loop
//! refute CLOSES CLOSES_UNDER_WAKER     the io_context is destroyed while somebody is posting a wake-up to it
//! refute CLOSES REMEMBERS_THE_LOOP     a thread wakes the loop that the owner slept in when it looked

mtype = { nobody, owner, offered, helper, asked_back };
mtype role = nobody;

// What stands in the completion queue.
#define REMOTE_DONE    1
#define SENSITIVE_DONE 2
#define NESTED_START   3
#define NESTED_DONE    4
#define LATE_DONE      5
chan arrivals = [6] of { byte };
byte arrived;              // length of arrivals
bool closed;               // closed_mark stands in it

bool remote_handled;       // the completion from elsewhere
byte served;               // thread-sensitive calls
bool helper_comes;         // helper_comes_
bool sleeping;             // sleep_mark stands in their place
bool wake_mutex, posted, io_closed;
byte asio;                 // handlers that are ready
bool io_alive = true;

bool token;                // the owner's parker
byte nested_count;         // the owner's lane
chan nested = [2] of { bit };
byte queued;               // length of nested
bool lane_mutex, sleeping_in;

byte drivers;
bool done[2];              // outcome_ of the root call, and of the nested one
bool slept_on[2];          // outcome_ says so
bit frame;                 // the owner's innermost
byte parts;                // of the root call, not yet back
bool owner_drives;         // `driving` in wait(), of the innermost frame
byte late;                 // how often the late completion was dealt with
#ifdef NO_THREADS
byte refusals = 2;         // by the system, of threads
#else
byte refusals = 0;
#endif

inline lock(mutex)   { atomic { !mutex -> mutex = true } }
inline unlock(mutex) { mutex = false }

inline wake_driver() {
#ifdef CLOSES
#ifndef CLOSES_UNDER_WAKER
  lock(wake_mutex);
#endif
  if
  :: io_closed || posted
  :: !io_closed && !posted ->
     posted = true;
     assert(io_alive);
     asio++;
     assert(io_alive)  // the handler may have run, and Asio is still at it
  fi;
#ifndef CLOSES_UNDER_WAKER
  unlock(wake_mutex)
#endif
#else
  atomic { if :: posted :: !posted -> posted = true; asio++ fi }
#endif
}

inline wake_loop() {
  if
  :: !sleeping
  :: sleeping -> wake_driver()
  fi
}

inline wake_owner() {
  token = true;
#ifndef WAKES_PARKER_ONLY
  if
  :: !sleeping_in
  :: sleeping_in ->
#ifdef CLOSES
#ifdef REMEMBERS_THE_LOOP
     assert(io_alive);
     wake_loop()
#else
     lock(lane_mutex);
     if
     :: sleeping_in -> assert(io_alive); wake_loop()
     :: !sleeping_in
     fi;
     unlock(lane_mutex)
#endif
#else
     if :: sleeping_in -> wake_loop() :: !sleeping_in fi
#endif
  fi
#endif
}

inline push(op) {
  if
  :: atomic { !closed && !sleeping -> arrivals ! op; arrived++ }
  :: atomic { !closed && sleeping -> arrivals ! op; arrived++; sleeping = false };
#ifndef TAKES_THE_MARK_AWAY_ONLY
     wake_driver()
#endif
  :: atomic { closed -> assert(op == LATE_DONE); late++ }
  fi
}

inline push_nested(item) {
  nested_count++;
  atomic { nested ! item; queued++ };
  wake_owner()
}

proctype remote(byte op) { push(op) }
proctype far_away() { push_nested(0) }  // a thread-sensitive call of the chain that comes from elsewhere

inline finish(call, mine) {
  if
  :: atomic { mine || !slept_on[call] -> done[call] = true }
  :: atomic { !mine && slept_on[call] -> done[call] = true };
#ifndef ENDS_SILENTLY
     wake_owner()
#endif
  fi
}

inline should_leave(mine, answer) {
  if
  :: mine -> answer = (done[frame] || nested_count > 0)
  :: !mine -> answer = (role == asked_back)
  fi
}

inline run_handler(mine) {
  if
  :: op == NESTED_START -> run remote(NESTED_DONE)
  :: op == NESTED_DONE -> finish(1, mine)
  :: op == LATE_DONE -> late++
  :: op == REMOTE_DONE || op == SENSITIVE_DONE ->
     if :: op == REMOTE_DONE -> remote_handled = true :: else fi;
     parts--;
     if :: parts == 0 -> finish(0, mine) :: else fi
  fi
}

inline sleep(mine) {
  bool stays = true;
#ifdef LOOKS_BEFORE_IT_SAYS
  should_leave(mine, leave);
  stays = !leave;
#endif
  if :: mine -> sleeping_in = true :: else fi;
  if
  :: atomic { arrived == 0 -> sleeping = true };
#ifndef LOOKS_BEFORE_IT_SAYS
     should_leave(mine, leave);
     stays = !leave;
#endif
     if
     :: stays ->
        atomic { asio > 0 -> asio--; posted = false }
     :: !stays
     fi;
     sleeping = false
  :: arrived != 0
  fi;
  if :: mine -> sleeping_in = false :: else fi;
  stays = false
}

inline turn(mine) {
  atomic { drivers++; assert(drivers == 1) };
  leave = false;
  do
  :: leave -> break
  :: !leave ->
     if
     :: atomic { arrived > 0 -> arrivals ? op; arrived--; op != 0 };
        run_handler(mine);
        should_leave(mine, leave)
     :: arrived == 0 ->
        should_leave(mine, leave);
        if
        :: leave
        :: !leave ->
           if
           :: atomic { asio > 0 -> asio--; posted = false }
                 :: asio == 0 ->
              if
              :: arrived > 0
              :: arrived == 0 -> sleep(mine); leave = false
              fi
           fi
        fi
     fi
  od;
  atomic { drivers--; op = 0; leave = false }
}

inline try_drive(got) {
  atomic {
    if
    :: role == nobody || role == offered -> role = owner; got = true
#ifdef DRIVES_UNASKED
    :: role == helper -> role = owner; got = true
#endif
    :: else -> got = false
    fi
  }
}

inline ask_back() {
  if
  :: atomic { role == helper -> role = asked_back };
#ifndef ASKS_SILENTLY
     wake_loop()
#endif
  :: role != helper
  fi
}

inline keep_helper(kept) {
  atomic {
    if
    :: role == asked_back -> role = helper; kept = true
    :: else -> kept = (role == helper)
    fi
  }
}

inline offer() {
  role = offered;
  if
  :: helper_comes
  :: !helper_comes ->
     helper_comes = true;
     if
     :: run help_out()
     :: atomic { refusals > 0 -> refusals-- };
        helper_comes = false;
        atomic { if :: role == offered -> role = nobody :: else fi }
     fi
  fi
}

proctype help_out() {
  bool leave;
  byte op;
#ifdef LOOKS_BEFORE_IT_HAS_COME
  bool offered_to_it;
  offered_to_it = (role == offered);
  helper_comes = false;
  if
  :: !offered_to_it -> goto gone
  :: offered_to_it
  fi;
#else
  helper_comes = false;
#endif
  if
  :: atomic { role == offered -> role = helper };
     do
     :: turn(false);
        if
        :: atomic { role == asked_back -> role = nobody; break }
        :: role != asked_back ->
#ifdef LEAVES_WHEN_KEPT
           break
#endif
           skip
        fi
     od;
#ifndef GIVES_BACK_SILENTLY
     wake_owner()
#endif
  :: role != offered  // the owner has taken it back, or another helper was quicker
  fi;
gone:
  skip
}

inline park() { atomic { token -> token = false } }

active proctype thread() {
  bool leave, got, kept;
  bit item;
  byte op;

  // block_on_own_loop(): the call starts, and with it what it consists of.
  try_drive(got);
  atomic { owner_drives = true; got = false };
#ifdef CLOSES
  parts = 2;
  push_nested(0);
  run far_away();
  run remote(LATE_DONE);
#else
#ifdef FAR
  parts = 3;
  push_nested(0);
  run far_away();
#else
  parts = 2;
  push_nested(1);
#endif
  run remote(REMOTE_DONE);
#endif

  // wait(), the root's and the nested one
  do
  :: done[frame] && frame == 0 -> break
  :: done[frame] && frame == 1 ->
#ifndef KEEPS_THE_ROLE
     if :: owner_drives -> offer() :: else fi;
#endif
     owner_drives = false;
     frame = 0;
     push(SENSITIVE_DONE)
  :: !done[frame] ->
     if
     :: atomic { queued > 0 -> nested ? item; queued--; nested_count-- };
        if
        :: owner_drives -> offer()
        :: !owner_drives ->
           keep_helper(kept);
           if
           :: kept
           :: !kept ->
              try_drive(got);
              if :: got -> offer() :: else fi
           fi
        fi;
        atomic { owner_drives = false; kept = false; got = false };
        if
        :: item == 0 ->
#ifdef WAITS
           if :: served == 1 -> remote_handled :: else fi;
           served++;
#endif
           push(SENSITIVE_DONE)
        :: item == 1 -> atomic { frame = 1; item = 0 }; push(NESTED_START)
        fi
     :: queued == 0 ->
        if :: !owner_drives -> try_drive(owner_drives) :: else fi;
        if
        :: owner_drives -> turn(true)
        :: !owner_drives ->
           if :: frame == 0 -> ask_back() :: else fi;
           if
           :: atomic { done[frame] -> token = false }  // within wait_a_little(), with forget_wake()
           :: atomic { token -> token = false }
           :: atomic { !done[frame] -> slept_on[frame] = true };
              park();
              slept_on[frame] = false
           fi
        fi
     fi
  od;
  do
  :: owner_drives -> break
  :: !owner_drives ->
     try_drive(owner_drives);
     if
     :: owner_drives
     :: !owner_drives -> ask_back(); park()
     fi
  od;
  role = nobody;
  assert(parts == 0 && nested_count == 0);

#ifdef CLOSES
  try_drive(got);
  assert(got);
  atomic { drivers++; assert(drivers == 1) };
  closed = true;
  do
  :: atomic { arrived > 0 -> arrivals ? op; arrived--; assert(op == LATE_DONE); late++ }
  :: arrived == 0 -> break
  od;
  sleeping_in = false;  // forget_loops()
#ifndef REMEMBERS_THE_LOOP
  lock(lane_mutex);
  unlock(lane_mutex);
#endif
#ifndef CLOSES_UNDER_WAKER
  lock(wake_mutex);
  io_closed = true;
  unlock(wake_mutex);
#endif
  io_alive = false
#endif
}

active proctype at_the_end() {
  timeout;
  assert(done[0]);
#ifdef CLOSES
  assert(late == 1)
#endif
}
