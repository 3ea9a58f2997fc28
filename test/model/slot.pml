// SPDX-License-Identifier: BSL-1.0
//
// The slot of a lane: a thread that waits for one call takes what that call's coroutine alone waits for.
//
//! mirrors src/lane.cpp lane::put_into_slot
//! mirrors src/lane.hpp open_slot close_slot
//! mirrors src/work_slot.hpp open put close is_closed
//! mirrors src/async_call_wait.cpp async_call::wait async_call::park
//! mirrors src/crossing.cpp crossing::hand_to_caller
//! mirrors src/blocked_thread.hpp run_unclaimed
//
// The thread opens its slot before it begins the call, and again whenever it has nothing to do. The coroutine makes two
// calls, one after another: the first one only once the thread waits, or before. Each is handed
// to the thread if its slot is open, else to a worker. Somebody may cancel the call that is under way. Other work for the
// thread comes once. Shown: each call ends exactly once, run or cancelled; no reference to it is left in a slot; the
// thread leaves when the coroutine has ended, and nobody sleeps for ever.
//
// The parker is taken to be what parker.pml shows it is: a token.
//
//! check
//! check  CANCELS
//! refute LEAVES_SLOT_OPEN       the thread does other work with its slot open since before the call began
//! refute CANCELS LEAVES_UNTAKEN the call has ended before the thread came to wait, which does not look into its slot
//! refute OPENS_AFTER_SLEEPING   the slot is open while the thread does other work: what is put there waits for that
//! refute CLOSES_BY_STORE        the thread closes its slot without looking at what is in it
//! refute PUTS_SILENTLY          who fills the slot does not wake the thread
//! refute PUTS_BY_STORE          who fills the slot does not look whether it is still open
//! refute CANCELS RUNS_UNCLAIMED the thread runs what it finds without claiming it

#define CLOSED 0
#define OPEN   1
#define FILLED 2

byte slot = CLOSED;
bool token;
bool begun;                // the call
bool done, slept_on;       // outcome_
bool nested;               // other work for the thread
byte made, ended;          // calls
bool claimed[2];
byte slot_references;

inline end_call(which) { assert(ended == which); ended++ }
inline wake() { token = true }

proctype worker(byte which) {
  bool was;
  atomic { was = claimed[which]; claimed[which] = true };
  if :: was :: !was -> end_call(which) fi
}

// hand_to_caller(), and submit() where it is false.
inline make(which) {
  made++;
  if
#ifdef PUTS_BY_STORE
  :: slot == OPEN -> slot_references++; slot = FILLED;
#else
  :: atomic { slot == OPEN -> slot_references++; slot = FILLED };
#endif
#ifndef PUTS_SILENTLY
     wake()
#endif
  :: slot != OPEN -> run worker(which)
  fi
}

active proctype coroutine() {
  begun;
  make(0);
  ended == 1;
  make(1);
  ended == 2;
  if
  :: atomic { !slept_on -> done = true }
  :: atomic { slept_on -> done = true }; wake()
  fi
}

#ifdef CANCELS
active proctype canceller() {
  bool was;
  made > 0;
  byte which = made - 1;
  atomic { was = claimed[which]; claimed[which] = true };
  if :: was :: !was -> end_call(which) fi
}
#endif

active proctype somebody_else() {
  nested = true;
  wake()
}

inline take_from_slot() {
#ifdef CLOSES_BY_STORE
  held = CLOSED;
  slot = CLOSED;
#else
  atomic { held = slot; slot = CLOSED };
#endif
  if
  :: held == FILLED ->
     which = made - 1;
     atomic { was = claimed[which]; claimed[which] = true };
     slot_references--;
#ifdef RUNS_UNCLAIMED
     end_call(which)
#else
     if :: was :: !was -> end_call(which) fi
#endif
  :: held != FILLED
  fi;
  atomic { took = (held == FILLED); held = CLOSED; was = false; which = 0 }
}

active proctype thread() {
  byte held, which;
  bool was, took;
  slot = OPEN;
  begun = true;
  do
  :: done -> break
  :: !done ->
     if
     :: nested ->
        took = false;
#ifndef LEAVES_SLOT_OPEN
        take_from_slot();
#endif
        if
        :: took
        :: !took ->
           nested = false;
           // It waits for the first call, wherever that runs.
           ended >= 1
        fi
     :: !nested ->
        if
        :: slot == CLOSED -> slot = OPEN
        :: slot != CLOSED
        fi;
#ifdef OPENS_AFTER_SLEEPING
        if
        :: atomic { nested -> nested = false }; ended >= 1
        :: !nested
        fi;
#endif
        if
        :: atomic { token -> token = false }          // within wait_a_little()
        :: done
        :: atomic { !done -> slept_on = true };       // it has waited in vain, and sleeps
           atomic { token -> token = false };
           slept_on = false
        fi;
        take_from_slot()
     fi
  od;
#ifndef LEAVES_UNTAKEN
  take_from_slot();
#endif
  assert(slot == CLOSED && slot_references == 0)
}

active proctype at_the_end() {
  timeout;
  assert(done && ended == 2 && slot_references == 0)
}
