// SPDX-License-Identifier: BSL-1.0
//
// One call of async_to_sync between the thread that waits for it, with a timeout and a loop that may stop, the executor
// that runs its coroutine, and those who cancel it.
//
//! mirrors src/async_call_wait.cpp async_call::park
//! mirrors src/async_call.cpp async_call::give_up async_call::begin async_call::finish
//! mirrors src/async_call.cpp async_call::request_cancel async_call::cancelled async_call::emit async_call::time_is_over
//
// Shown: the one who waits leaves with one outcome, and does leave; a coroutine whose caller has given up before it began
// never begins; the result is complete when it is read. The coroutine here ends only when it has heard of every
// cancellation or of the timeout: none is lost.
//
// With TIMES_OUT the call has a timeout; with STOPS the loop may stop for good at any moment.
//
//! check
//! check  TIMES_OUT
//! check  TIMES_OUT STOPS
//! refute TIMES_OUT GIVES_UP_UNASKED  the one who waits gives up without claiming the call: it may begin afterwards
//! refute TIMES_OUT ENDS_BY_STORE the coroutine's end overwrites that its caller has given up
//! refute CLEARS_AFTER_EMITTING   what comes while a cancellation is being delivered relies on that delivery
//! refute CLEARS_BY_STORE         the same, because a plain store may be on its way during the read-modify-write that follows it
//! refute PUBLISHES_EARLY         the end is announced before the result is there
//! refute STOPS WAITS_FOR_EVER    nobody looks whether the loop has been stopped

mtype = { pending, done, given_up };
mtype outcome = pending;
bool claimed, begun, ended, result_there;
bool signal;               // signal_: the coroutine can be cancelled
byte types;                // cancel_types_
bool queued;               // cancel_queued_
bool clear_pending;        // a plain store to it that is still on its way
byte heard;                // what the coroutine has heard of
bool timed_out;
bool token;                // the parker of the one who waits

bool start_op, cancel_op;  // on the executor
bool stopped;

#define EVERYTHING 3

active proctype store_buffer() {
end:
  do
  :: atomic { clear_pending -> queued = false; clear_pending = false }
  od
}

// Whoever waits: park() and what it does when that ran out of time.
active proctype waiting_thread() {
  bool patience = true, stopped_before = false, was;
  start_op = true;
  do
  :: outcome != pending -> break
  :: outcome == pending ->
     if
     :: atomic { token -> token = false }
#ifdef STOPS
#ifndef WAITS_FOR_EVER
     :: stopped -> // for the second time in a row
        if :: atomic { outcome == pending -> outcome = given_up } :: outcome != pending fi
#endif
#endif
#ifdef TIMES_OUT
     :: atomic { !token && patience -> patience = false };
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
#endif
     fi
  od;
  if
  :: outcome == done -> assert(result_there)
  :: outcome == given_up
  fi;
  was = (outcome == done);
  // It has left; what it was told stays true.
  timeout;
  assert(was == (outcome == done))
}

inline emit() {
  if
  :: !signal
  :: signal -> atomic { heard = heard | types; types = 0 }
  fi
}

inline finish() {
  signal = false;
#ifdef PUBLISHES_EARLY
  outcome = done;
  result_there = true;
  token = true;
#else
  result_there = true;
#ifdef ENDS_BY_STORE
  outcome = done;
  token = true;
#else
  if
  :: atomic { outcome == pending -> outcome = done }; token = true
  :: outcome != pending
  fi;
#endif
#endif
  ended = true
}

active proctype executor() {
  bool was;
end:
  do
  :: stopped -> break
#ifdef STOPS
  :: atomic { !stopped -> stopped = true; break }
#endif
  :: atomic { start_op && !stopped -> start_op = false };
     // begin()
     atomic { was = claimed; claimed = true };
     if
     :: was -> finish()
     :: !was && types != 0 -> finish()
     :: !was && types == 0 ->
        assert(outcome != given_up);
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
