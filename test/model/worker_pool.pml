// SPDX-License-Identifier: BSL-1.0
//
// The workers of a pool: who is idle, who searches (spinning, or woken and on its way), who is added for a blocked one, who
// leaves, and whose thread rests then and may come back as a worker; who is about to return from its call; the slot in which who spins is handed an item without
// the mutex; and who is on the lookout, so that nobody has to be woken for calls that are short.
//
//! mirrors src/worker_pool_core.cpp worker_pool_core::submit worker_pool_core::no_thread_for
//! mirrors src/worker_pool_core.cpp worker_pool_core::work_loop worker_pool_core::worker_blocks
//! mirrors src/worker_pool_core.cpp worker_pool_core::wants_worker worker_pool_core::take_resting
//! mirrors src/worker_pool_core.cpp worker_pool_core::count_worker worker_pool_core::uncount_worker
//! mirrors src/worker_pool_core.cpp pool_worker::blocks pool_worker::resumes
//! mirrors src/worker_pool_search.cpp worker_pool_core::next worker_pool_core::rest worker_pool_core::stop_searching
//! mirrors src/worker_pool_search.cpp worker_pool_core::wait_for_work worker_pool_core::wait_awake
//! mirrors src/worker_pool_search.cpp worker_pool_core::wait_asleep worker_pool_core::await_wake
//! mirrors src/worker_pool_search.cpp worker_pool_core::close_slot worker_pool_core::wake_idle_worker
//! mirrors src/worker_pool_search.cpp pool_worker::returns_from worker_pool_core::spread_idle worker_pool_core::wake
//! mirrors src/worker_pool_search.cpp worker_pool_core::see_to_submitted
//! mirrors src/worker_pool_search.cpp worker_pool_core::begin_lookout worker_pool_core::goes_on_looking_out
//! mirrors src/worker_pool_core.hpp free_workers see_to_queue at_work is_looked_after
//! mirrors src/work_slot.hpp open put close is_filled
//! mirrors src/pool_lock.hpp wakes unlock
//! mirrors src/worker_pool_shutdown.cpp worker_pool_core::shutdown worker_pool_core::refuse_hopeless
//
// Every item that submit takes is run, or refused because there is no thread to be had; none lies in the queue while
// everybody sleeps, although each parent blocks until its child, an item of the same pool, has run. Never more threads
// than the hard limit, with those that rest; in the end no more unblocked workers than the soft limit. A parker is
// unparked only while its worker lives. Where something is queued and somebody idle, somebody searches, or as many as are
// queued are about to return from their calls, or somebody is on the lookout and somebody else at work, and nobody who is
// idle leaves: an item may block its worker for what another item does, in a way that the pool does not see.
// shutdown() without a deadline lets all that is queued run, and returns.
//
// What happens under mutex_ is one step, and who was chosen there is woken in a later one. The parker is taken to be what
// parker.pml shows it is: a token. A lookout's look comes at any time; that others cope is any choice where they have taken
// an item since the last one. Which of the idle is woken is any choice, and so is whether one more is, so that it is moved
// to another CPU.
//
//! check
//! check  SOFT=2 TWICE
//! check  RESTS_LONG
//! check  RESTS_LONG SOFT=2 TWICE
//! check  START_FAILS
//! check  START_FAILS RESTS_LONG
//! check  START_FAILS TWICE
//! check  NO_OFFERS
//! check  CLOSES
//! check  CLOSES START_FAILS
//! check  CLOSES RESTS_LONG
//! refute SPINNER_SLEEPS_AT_ONCE     the spinning worker does not look at the queue again before it sleeps
//! refute SURPLUS_TELLS_NOBODY SOFT=2 TWICE  a surplus worker that was woken for an item leaves without waking another
//! refute FINDER_WAKES_NOBODY SOFT=2 TWICE  a searcher that has found an item does not wake the next one for the rest
//! refute LATE_SLEEPER_LEAVES SOFT=2  an idle worker whose time is over leaves although somebody relies on it
//! refute LEAVES_WITHOUT_LOOKING     a worker that has left does not look at what was queued meanwhile
//! refute NO_COMPENSATION NO_OFFERS  a worker that blocks in a bridge is not replaced
//! refute FORGETS_THE_SLOT           who has waited long enough closes its slot without looking at what is in it
//! refute CLOSES KEEPS_THE_SLOT      shutdown leaves the slot open
//! refute LOOKS_AWAY SOFT=2 TWICE    a lookout does not join in where nothing gets on
//! refute TRUSTS_THE_LOOKOUT SOFT=2  nobody is woken although all are idle, because one is on the lookout
//! refute BLOCKS_UNSEEN SOFT=2 TWICE  a worker blocks, and leaves what is queued to the lookout
//! refute START_FAILS FAILS_ALONE    who cannot start the only thread looks after its own item alone
//! refute START_FAILS TWICE TRUSTS_FOR_EVER  what was queued for a worker that left waits for those that wait for it
//! refute CLOSES RESTS_LONG CLOSES_PAST_RESTING  shutdown does not wake who rests
//! refute RESTS_LONG STARTS_BESIDE_RESTING SOFT=2 TWICE  a thread is started although another one rests
//! refute ENDS_UNCOUNTED SOFT=2 TWICE  who has rested in vain is not counted while it ends
//! refute RESTS_LONG START_FAILS FORGETS_RESTING  who could not start a thread does not look who rests by then
//! refute GOES_ON_UNWOKEN            who was taken when its time was over does not wait for its wake
//! refute LEAVES_A_WAKE SOFT=2       an idle worker that was woken when its time was over leaves the wake for later
//! refute RETURNS_BEFORE_IT_ENDS SOFT=2  a worker is taken to return from its call, which then blocks
//! refute ONE_RETURNS_FOR_ALL SOFT=2 TWICE  nobody is woken while somebody returns, however much is queued
//! refute RETURNS_FOR_EVER SOFT=2    who has returned still counts as one that will
//! refute CLOSES COUNTS_OUT_FIRST    the last worker counts itself out before it counts its successor in

#ifndef SOFT
#define SOFT 1
#endif
#define HARD 3
#ifdef TWICE
#define CHILDREN 2
#define SINGLES 1
#else
#define CHILDREN 1
#define SINGLES 2
#endif
#define ITEMS (1 + CHILDREN + SINGLES)

#define PARENT  0
#define CHILD   1
#define SINGLE  2
// Those two, where no worker was free and whoever queued it was told so; a parent may take its child, too.
#define OFFERED 3
#define PATIENT 4
// Of the slot; anything below: an item.
#define SHUT    5
#define OPEN    6
#define FILLED  (slot < SHUT)

chan queue = [ITEMS] of { byte };
byte queued;                // length of queue
byte threads, blocked, searching, returning, ending;
bool closed, spinning;
byte slot = SHUT;           // or open, or what was handed over
byte lookout = HARD;        // who is on it; HARD: nobody
bool served;                // an item has been taken since the lookout's last look
bool idle[HARD], rests[HARD], searches[HARD], token[HARD], alive[HARD];
byte submitted, ran, refused, turned_away;
byte children_done;         // run or refused: their parent goes on
#ifdef TWICE
byte idle_timeouts = 0;
#else
byte idle_timeouts = 2;
#endif
#ifdef START_FAILS
byte failures = 2;
#else
byte failures = 0;
#endif

#ifdef ENDS_UNCOUNTED
#define MAY_GROW (threads < HARD && threads - blocked < SOFT)
#else
#define MAY_GROW (threads + ending < HARD && threads - blocked < SOFT)
#endif
#define RESTING (rests[0] + rests[1] + rests[2])
#define ANY_IDLE (idle[0] || idle[1] || idle[2])
#define AT_WORK (threads > blocked + idle[0] + idle[1] + idle[2])
#define LOOKED_AFTER (lookout < HARD && AT_WORK)
#define SOMEBODY_COMES (queued <= returning || !ANY_IDLE || searching > 0 || LOOKED_AFTER)
#define SERVERS (searching + idle[0] + idle[1] + idle[2] - FILLED)
#define WANTS_WORKER (queued > SERVERS && MAY_GROW)

inline wake_idle(who) {
  if
  :: idle[0] -> who = 0
  :: idle[1] -> who = 1
  :: idle[2] -> who = 2
  fi;
  idle[who] = false;
  searches[who] = true;
  searching++
}

#ifdef ONE_RETURNS_FOR_ALL
#define RETURNING_COME (returning > 0)
#else
#define RETURNING_COME (queued <= returning)
#endif
#define UNATTENDED (searching == 0 && queued > 0 && ANY_IDLE)

// Without the lock.
inline unpark(who) {
  if :: who < HARD -> atomic { assert(alive[who]); assert(!token[who]); token[who] = true } :: else fi;
  who = HARD
}

inline see_to_queue(who) {
  if
#ifdef TRUSTS_THE_LOOKOUT
  :: UNATTENDED && lookout == HARD -> wake_idle(who)
#else
  :: UNATTENDED && !LOOKED_AFTER -> wake_idle(who)
  :: UNATTENDED && RETURNING_COME   // a loop that then sleeps has submitted it
#endif
  :: else
  fi
}

inline close_slot() {
  if
#ifndef FORGETS_THE_SLOT
  :: FILLED -> queue ! slot; queued++
#endif
  :: else
  fi;
  slot = SHUT
}

// In one step with what made `me` stop.
inline stop_searching(me, other) {
  if :: searches[me] -> searches[me] = false; searching-- :: else fi;
  see_to_queue(other)
}

inline refuse_queue() {
  assert(queued == 0 || RESTING == 0);
  do
  :: queued > 0 -> queue ? kind; queued--; refused++; if :: kind == CHILD || kind == OFFERED -> children_done++ :: else fi
  :: queued == 0 -> break
  od
}

// One more worker counts. `start`: a thread has to be started for it; else `from` has rested, and is to be woken.
inline count_worker(start, from) {
  threads++;
  start = false;
  from = HARD;
  if
#ifdef STARTS_BESIDE_RESTING
  :: start = true
#else
  :: rests[0] -> from = 0
  :: rests[1] -> from = 1
  :: rests[2] -> from = 2
  :: RESTING == 0 -> start = true
#endif
  fi;
  if :: from < HARD -> rests[from] = false :: else fi;
  assert(threads + ending + RESTING <= HARD)
}

inline uncount_worker(start, from) {
  threads--;
#ifndef FORGETS_RESTING
  if
  :: RESTING > 0 && WANTS_WORKER -> count_worker(start, from); assert(!start); token[from] = true
  :: else
  fi
#endif
}

// `counted`: threads includes it already.
inline start_counted(failed) {
  if
  :: atomic {
       failed = false;
       if
       :: !alive[0] -> alive[0] = true; run worker(0)
       :: alive[0] && !alive[1] -> alive[1] = true; run worker(1)
       :: alive[0] && alive[1] -> assert(!alive[2]); alive[2] = true; run worker(2)
       fi
     }
  :: atomic { failures > 0 -> failures--; failed = true }
  fi
}

inline refuse_trusting() {
  assert(queued == 0 || RESTING == 0);
  do
  :: queue ?? [CHILD] -> queue ?? CHILD; queued--; refused++; children_done++
  :: !(queue ?? [CHILD]) && queue ?? [SINGLE] -> queue ?? SINGLE; queued--; refused++
  :: !(queue ?? [CHILD]) && !(queue ?? [SINGLE]) -> break
  od
}

// The latest item of this kind waits knowingly from now on.
inline offer(what) {
  if
  :: what == CHILD -> queue ?? CHILD; queue ! OFFERED
  :: what == SINGLE -> queue ?? SINGLE; queue ! PATIENT
  :: else
  fi
}

inline submit(what) {
  bool start, failed;
  byte chosen = HARD, from = HARD;
  byte kind;
  // Without the lock where the slot is open.
  atomic {
    start = false;
    submitted++;
    if
    :: slot == OPEN -> assert(!closed && queued == 0); slot = what
    :: slot != OPEN && closed -> turned_away++; if :: what == CHILD -> children_done++ :: else fi
    :: slot != OPEN && !closed ->
       queue ! what; queued++;
       see_to_queue(chosen);
       if
       :: queued - 1 < SERVERS -> if :: LOOKED_AFTER -> offer(what) :: else fi
       :: queued - 1 >= SERVERS && MAY_GROW -> count_worker(start, from)
       :: queued - 1 >= SERVERS && !MAY_GROW -> offer(what)
       fi;
       assert(SOMEBODY_COMES)
    fi
  };
  unpark(chosen);
  unpark(from);
  if
  :: start ->
     start_counted(failed);
     if
     :: failed ->
        atomic {
          uncount_worker(start, from);
          if
          :: threads == 0 ->
#ifdef FAILS_ALONE
             if
             :: queue ?? [eval(what)] -> queue ?? eval(what); queued--; refused++; if :: what == CHILD -> children_done++ :: else fi
             :: else
             fi
#else
             refuse_queue()
#endif
          :: threads != 0 ->
             if :: queue ?? [eval(what)] -> offer(what) :: else fi;
#ifndef TRUSTS_FOR_EVER
             if :: threads == blocked -> refuse_trusting() :: else fi
#endif
          fi
        }
     :: else
     fi
  :: else
  fi
}

inline start_wanted() {
  start_counted(failed);
  if
  :: failed -> atomic {
       uncount_worker(start, from);
       if
       :: threads == 0 -> refuse_queue()
#ifndef TRUSTS_FOR_EVER
       :: threads != 0 && threads == blocked -> refuse_trusting()
#endif
       :: else
       fi
     }
  :: else
  fi
}

inline add_wanted_worker() {
  atomic { from = HARD; if :: WANTS_WORKER -> count_worker(start, from) :: else -> start = false fi };
  unpark(from);
  if :: start -> start_wanted() :: else fi
}

proctype worker(byte me) {
  byte kind, other, from;
  bool start, failed, woken, rested, returns;
next:
  other = HARD;
  atomic {
    if
    :: threads - blocked > SOFT ->
       if :: !closed -> threads--; rests[me] = true :: else fi;
#ifdef SURPLUS_TELLS_NOBODY
       if :: searches[me] -> searches[me] = false; searching-- :: else fi;
#else
       stop_searching(me, other);
#endif
       assert(SOMEBODY_COMES);
       if :: rests[me] -> goto rest :: else -> goto leave fi
    :: else
    fi;
    if :: FILLED -> close_slot() :: else fi;
    if
    :: queued > 0 ->
       queue ? kind; queued--;
#ifdef FINDER_WAKES_NOBODY
       if :: searches[me] -> searches[me] = false; searching-- :: else fi;
#else
       stop_searching(me, other);
#endif
       if :: other == HARD && ANY_IDLE -> wake_idle(other) :: true fi;
       served = true;
       assert(SOMEBODY_COMES);
       goto take
    :: queued == 0 && closed -> stop_searching(me, other); goto leave
    :: queued == 0 && !closed && !spinning ->
       spinning = true;
       slot = OPEN;
       if :: !searches[me] -> searches[me] = true; searching++ :: else fi
    :: queued == 0 && !closed && spinning ->
       if :: searches[me] -> searches[me] = false; searching-- :: else fi;
       idle[me] = true;
       if :: lookout == HARD && AT_WORK -> lookout = me :: skip fi;
       goto sleep
    fi
  };
  // Spins for as long as it likes.
  atomic {
    spinning = false;
    close_slot();
#ifndef SPINNER_SLEEPS_AT_ONCE
    if
    :: queued > 0 || closed -> goto next
    :: queued == 0 && !closed -> goto next     // another one has what it was handed
    :: queued == 0 && !closed
    fi;
#endif
    searches[me] = false;
    searching--;
    idle[me] = true;
    if :: lookout == HARD && AT_WORK -> lookout = me :: skip fi
  };
sleep:
end_sleep:
  if
  :: atomic { token[me] -> token[me] = false; woken = true }
  :: atomic { !token[me] && (lookout == me || idle_timeouts > 0) ->
              if :: lookout != me -> idle_timeouts-- :: else fi; woken = false }
  fi;
  atomic {
    if
    :: !idle[me] -> if :: lookout == me -> lookout = HARD :: else fi;
#ifdef LEAVES_A_WAKE
       goto next
#else
       if :: woken -> goto next :: else -> goto chosen fi
#endif
    :: idle[me] && lookout == me ->
       assert(!woken);
       if :: FILLED -> close_slot() :: else fi;
       if
       :: served && AT_WORK -> served = false; goto sleep   // the others cope
       :: true -> served = false; lookout = HARD;
#ifdef LOOKS_AWAY
          assert(SOMEBODY_COMES);
          goto sleep
#else
          if :: queued == 0 -> goto sleep :: else -> idle[me] = false; goto next fi
#endif
       fi
    :: idle[me] && lookout != me ->
       assert(!woken);
       idle[me] = false;
#ifndef LATE_SLEEPER_LEAVES
       if :: queued > 0 -> goto next :: else fi;
#endif
       assert(queued == 0);
       goto leave
    fi
  };
chosen:
  // At the last moment: the wake is on its way.
  atomic { token[me] -> token[me] = false; goto next };
rest:
  unpark(other);
end_resting:
  if
  :: atomic { token[me] -> token[me] = false; woken = true }
#ifndef RESTS_LONG
  :: atomic { !token[me] -> woken = false }  // its time is over
#endif
  fi;
  atomic {
    if
    :: !rests[me] && woken -> goto next
#ifdef GOES_ON_UNWOKEN
    :: !rests[me] && !woken -> goto next
#else
    :: !rests[me] && !woken
#endif
    :: rests[me] -> assert(!woken); rests[me] = false; ending++; rested = true; goto leave
    fi
  };
  goto chosen;
take:
  unpark(other);
#ifdef RETURNS_BEFORE_IT_ENDS
  returning++;
#endif
  if
  :: kind == PARENT ->
     byte rounds = CHILDREN;
     do
     :: rounds > 0 ->
        // Its child comes from the loop, before it blocks or afterwards.
        rounds--;
        run child();
        atomic {
          blocked++;
#ifndef BLOCKS_UNSEEN
          if :: searching == 0 && queued > 0 && ANY_IDLE -> wake_idle(other) :: else fi;
#endif
          assert(SOMEBODY_COMES)
        };
        unpark(other);
#ifndef NO_COMPENSATION
        add_wanted_worker();
#endif
        if
        :: atomic { children_done > 0 -> children_done--; blocked-- }
#ifndef NO_OFFERS
        :: atomic { queue ?? [OFFERED] -> queue ?? OFFERED; queued--; blocked--; ran++ }
#endif
        fi
     :: rounds == 0 -> break
     od
  :: kind == CHILD || kind == OFFERED -> atomic { children_done++ }
  :: kind == SINGLE || kind == PATIENT
  fi;
  // Before it wakes who waits for that.
#ifndef RETURNS_BEFORE_IT_ENDS
  if
  :: returning++; returns = true
  :: returns = false
  fi;
#endif
  atomic {
    ran++;
#ifdef RETURNS_BEFORE_IT_ENDS
    returning--;
#else
#ifndef RETURNS_FOR_EVER
    if :: returns -> returning-- :: else fi;
#endif
#endif
    goto next
  };
leave:
  unpark(other);
  // on_thread_stop runs here, without the lock.
  skip;
#ifdef COUNTS_OUT_FIRST
  atomic { alive[me] = false; token[me] = false; if :: rested -> ending-- :: else -> threads-- fi };
  add_wanted_worker()
#else
  atomic {
    alive[me] = false;
    token[me] = false;
    if :: rested -> ending-- :: else -> threads-- fi;
    start = false;
#ifndef LEAVES_WITHOUT_LOOKING
    from = HARD;
    if :: WANTS_WORKER -> count_worker(start, from) :: else fi
#endif
  };
#ifndef LEAVES_WITHOUT_LOOKING
  unpark(from);
#endif
  if :: start -> start_wanted() :: else fi
#endif
}

proctype child() { submit(CHILD) }
active proctype parent() { submit(PARENT) }
active [SINGLES] proctype single() { submit(SINGLE) }

#ifdef CLOSES
active proctype shutdown() {
  atomic {
    closed = true;
#ifndef KEEPS_THE_SLOT
    close_slot();
#endif
    do
    :: idle[0] -> idle[0] = false; token[0] = true
    :: idle[1] -> idle[1] = false; token[1] = true
    :: idle[2] -> idle[2] = false; token[2] = true
    :: !ANY_IDLE -> break
    od;
#ifndef CLOSES_PAST_RESTING
    if :: rests[0] -> rests[0] = false; threads++; token[0] = true :: else fi;
    if :: rests[1] -> rests[1] = false; threads++; token[1] = true :: else fi;
    if :: rests[2] -> rests[2] = false; threads++; token[2] = true :: else fi
#endif
  };
  threads + ending + RESTING == 0;
  assert(queued == 0)
}
#endif

active proctype at_rest() {
  timeout;
  assert(queued == 0 && !FILLED);
  assert(blocked == 0);
  assert(threads <= SOFT);
#ifndef START_FAILS
  assert(refused == 0);
#endif
  assert(ran + refused + turned_away == submitted)
}
