// SPDX-License-Identifier: BSL-1.0
//
// One call of async_to_sync between the thread that waits for it, with a timeout and a loop that may stop, the executor
// that runs its coroutine, and those who cancel it.
//
//! mirrors src/async_call_wait.cpp async_call::park
//! mirrors src/async_call.cpp async_call::block async_call::give_up async_call::begin async_call::finish
//! mirrors src/async_call.cpp async_call::tell_waiter async_call::refuse async_call::take_place
//! mirrors src/resident.cpp resident::run
//! mirrors src/async_call.cpp async_call::request_cancel async_call::cancelled async_call::emit async_call::time_is_over
//
// Shown: the one who waits leaves with one outcome, and does leave; a coroutine whose caller has given up before it began
// never begins; the result is complete when it is read. The coroutine here ends only when it has heard of every
// cancellation or of the timeout: none is lost. The call is destroyed once, and touched by nobody afterwards; nor is the
// lane of the one who waits, which goes with its thread. Others, for whom work is nested there, may wake that thread, too.
//
// With TIMES_OUT the call has a timeout; with STOPS it runs on somebody else's loop, which may stop for good at any moment,
// also in the midst of a step; with REFUSES the wait is found to be part of a deadlock. Not shown: the end of a call on the
// very thread that waits, which by that is not asleep.
//
//! check
//! check  TIMES_OUT
//! check  TIMES_OUT STOPS
//! check  REFUSES
//! check  TIMES_OUT REFUSES
//! refute TIMES_OUT GIVES_UP_UNASKED  the one who waits gives up without claiming the call: it may begin afterwards
//! refute TIMES_OUT ENDS_BY_STORE the coroutine's end overwrites that its caller has given up
//! refute CLEARS_AFTER_EMITTING   what comes while a cancellation is being delivered relies on that delivery
//! refute CLEARS_BY_STORE         the same, because a plain store may be on its way during the read-modify-write that follows it
//! refute PUBLISHES_EARLY         the end is announced before the result is there
//! refute STOPS WAITS_FOR_EVER    nobody looks whether the loop has been stopped
//! refute SLEEPS_UNMARKED         who waits sleeps without saying so
//! refute WAKES_NOBODY            who ends the call does not wake who said so
//! refute RELEASES_TOO            the coroutine's reference is given to who waits, and let go of
//! refute TAKES_LANE_LATE         who ends the call holds the lane only when who waits may have gone
//! refute STOPS FORGETS_THE_LANE   the call does not keep the lane of who waits
//! refute TIMES_OUT TAKES_PLACE_UNASKED  the executor looks at what is above the call before it has claimed it
//! refute REFUSES REFUSES_THE_AWAKE who refuses the call reckons with a thread that is awake only
//! refute REFUSES REFUSES_UNASKED   who refuses the call does not claim it: it may begin afterwards

mtype = { pending, slept_on, done, given_up };
mtype = { woken, stop, time };  // by what a wait has ended
mtype outcome = pending;
bool claimed, begun, ended, result_there;
bool signal;               // signal_: the coroutine can be cancelled
byte types;                // cancel_types_
bool queued;               // cancel_queued_
bool clear_pending;        // a plain store to it that is still on its way
byte heard;                // what the coroutine has heard of
bool timed_out;
bool token;                // the parker of the one who waits
#ifdef REFUSES
byte owners = 3;           // of the call: the one who waits, the coroutine, and the one who refuses it
#else
byte owners = 2;
#endif
#ifdef FORGETS_THE_LANE
byte lane_owners = 1;      // the thread that waits
#else
byte lane_owners = 2;      // that, and the call: kept_waiter_
#endif
bool gone;                 // the one who waits, and with that what is above the call

bool start_op, cancel_op;  // on the executor
bool stopped;

#define EVERYTHING 3
#define WAITED_FOR (outcome == pending || outcome == slept_on)
#define TOUCH assert(owners > 0)

inline release(count) {
  atomic {
    assert(owners >= count);
    owners = owners - count;
#ifndef FORGETS_THE_LANE
    if :: owners == 0 -> lane_owners-- :: owners > 0 fi
#endif
  }
}

active proctype store_buffer() {
end:
  do
  :: atomic { clear_pending -> queued = false; clear_pending = false }
  od
}

// Whoever waits: park() and what it does when that ran out of time; then the end of block().
active proctype waiting_thread() {
  bool patience = true, was;
  mtype woken_by;
  start_op = true;
  do
  :: !WAITED_FOR -> break
  :: outcome == pending ->
#ifndef SLEEPS_UNMARKED
     if
     :: atomic { outcome == pending -> outcome = slept_on }
     :: !WAITED_FOR -> break
     fi;
#endif
     if
     :: atomic { token -> token = false; woken_by = woken }
#ifdef STOPS
#ifndef WAITS_FOR_EVER
     :: stopped -> woken_by = stop  // seen for the second time in a row
#endif
#endif
#ifdef TIMES_OUT
     :: atomic { !token && patience -> patience = false; woken_by = time }
#endif
     fi;
#ifndef SLEEPS_UNMARKED
     if :: atomic { outcome == slept_on -> outcome = pending } :: outcome != slept_on fi;
#endif
     if
     :: woken_by == woken
     :: woken_by == stop ->
        if :: atomic { outcome == pending -> outcome = given_up } :: outcome != pending fi
     :: woken_by == time ->
#ifdef GIVES_UP_UNASKED
        was = claimed;
#else
        atomic { was = claimed; claimed = true };
#endif
        if
        :: was
        :: !was ->
           if
           :: atomic { outcome == pending -> outcome = given_up; assert(!begun) }
           :: outcome != pending
           fi
        fi
     fi
  od;
  if
  :: outcome == done -> assert(result_there); gone = true; was = true; release(2)  // the coroutine's, too
  :: outcome == given_up -> gone = true; was = false; release(1)
  fi;
  atomic { assert(lane_owners > 0); lane_owners-- };  // its thread ends
  // It has gone; what it was told stays true.
  timeout;
  assert(was == (outcome == done));
  assert(owners == 0 || (!was && !ended));
  assert(owners > 0 || lane_owners == 0)
}

active proctype nesting_thread() {
  if
  :: atomic { lane_owners > 0 -> token = true }
  :: lane_owners == 0
  fi
}

inline emit() {
  if
  :: !signal
  :: signal -> atomic { heard = heard | types; types = 0 }
  fi
}

inline tell_waiter() {
  do
#ifdef ENDS_BY_STORE
  :: outcome = done; told = true; token = true; break
#else
  :: atomic { outcome == pending -> TOUCH; outcome = done; told = true }; break
  :: outcome == given_up -> TOUCH; break
  :: outcome == slept_on ->
     TOUCH;
#ifndef TAKES_LANE_LATE
     atomic { assert(lane_owners > 0); lane_owners++ };
#endif
     if
     :: atomic { outcome == slept_on -> TOUCH; outcome = done; told = true };
#ifdef TAKES_LANE_LATE
        atomic { assert(lane_owners > 0); lane_owners++ };
#endif
#ifndef WAKES_NOBODY
        token = true;
#endif
        lane_owners--;
        break
     :: outcome != slept_on ->
#ifndef TAKES_LANE_LATE
        lane_owners--
#else
        skip
#endif
     fi
#endif
  od
}

inline finish() {
  bool told = false;
  TOUCH;
  signal = false;
#ifdef PUBLISHES_EARLY
  tell_waiter();
  result_there = true;
#else
  result_there = true;
  tell_waiter();
#endif
  if
#ifdef RELEASES_TOO
  :: told -> release(1)
#else
  :: told
#endif
  :: !told -> release(1)
  fi;
  ended = true
}

active proctype executor() {
  bool was;
end:
  do
  :: stopped -> break
#ifdef REFUSES
  :: start_op -> break  // it gets to nothing any more: that is the deadlock
#endif
  :: atomic { start_op && !stopped -> start_op = false };
     // run(), and begin()
     TOUCH;
#ifdef TAKES_PLACE_UNASKED
     assert(!gone);  // take_place()
#endif
     atomic { was = claimed; claimed = true };
#ifndef STOPS
     assert(was || !gone);  // take_place(); on somebody else's loop by who waits, before
#endif
     if
     :: was -> finish()
     :: !was && types != 0 -> finish()
     :: !was && types == 0 ->
#ifndef STOPS
        assert(outcome != given_up);
#endif
        atomic { begun = true; signal = true }
     fi
  :: atomic { cancel_op && !stopped -> cancel_op = false };
#ifdef CLEARS_AFTER_EMITTING
     emit();
     queued = false
#else
#ifdef CLEARS_BY_STORE
     clear_pending = true;
#else
     queued = false;
#endif
     emit()
#endif
#ifdef TIMES_OUT
  :: atomic { signal && !timed_out -> timed_out = true }  // time_is_over()
#endif
  :: signal && (heard == EVERYTHING || timed_out) -> finish()
  od
}

inline request_cancel(type) {
  bool was;
  types = types | type;
  atomic { was = queued; queued = true };
  if
  :: was
  :: !was -> cancel_op = true
  fi
}

active proctype canceller() { request_cancel(1) }
active proctype other_canceller() { request_cancel(2) }

#ifdef STOPS
active proctype stopper() { stopped = true }
#endif

#ifdef REFUSES
active proctype refuser() {
  bool was;
#ifndef REFUSES_UNASKED
  atomic { was = claimed; claimed = true };
#endif
  if
  :: was
  :: !was ->
     do
#ifndef REFUSES_THE_AWAKE
     :: atomic { outcome == slept_on -> TOUCH; outcome = given_up; assert(!begun) }; token = true; break
#endif
     :: atomic { outcome == pending -> TOUCH; outcome = given_up; assert(!begun) }; token = true; break
     :: !WAITED_FOR -> break
     od
  fi;
  release(1)
}
#endif
