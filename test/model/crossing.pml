// SPDX-License-Identifier: BSL-1.0
//
// One call of sync_to_async between those who may run it, and its loop, which may cancel it, abandon it, or go.
//
//! mirrors src/crossing.cpp crossing::run crossing::refuse crossing::complete crossing::cancel crossing::abandon
//! mirrors src/crossing.cpp crossing::orphaned crossing::withdraw crossing::cancel_inner crossing::attach crossing::detach
//! mirrors src/suspension.cpp suspension::deliver suspension::arrive suspension::undeliverable
//! mirrors include/bothworlds/detail/work.hpp try_claim
//
// The call stands in the pool's queue and, as an offer, in a blocked thread's lane. Shown: the callable runs at most
// once, and never after a cancellation that came before it; its payload is destroyed once; the coroutine is resumed or
// dropped, exactly once, whatever comes together; an outcome that was promised is the one that is delivered; the call
// lives as long as somebody uses it, and no longer. A cancellation while the callable runs reaches one of its nested
// calls, unless none comes any more.
//
//! check  POLICY=WAIT
//! check  POLICY=ABANDON
//! refute POLICY=WAIT RUNS_UNCLAIMED            who takes it from a queue runs it without claiming it
//! refute POLICY=WAIT CANCELS_UNCLAIMED         a cancellation refuses what somebody is running
//! refute POLICY=ABANDON COMPLETES_BY_STORE     completion does not ask whether the call was abandoned meanwhile
//! refute POLICY=ABANDON ABANDONS_BY_STORE      abandonment does not ask whether the call has completed meanwhile
//! refute POLICY=ABANDON DELIVERS_WITHOUT_OWNING  abandonment hands the loop a reference that the runner has, too
//! refute POLICY=WAIT LEAVES_COPIES             a cancelled call leaves its reference in the queues
//! refute POLICY=WAIT LOSES_THE_GAP             a cancellation between two nested calls is not kept for the next

#define WAIT    0
#define ABANDON 1

mtype = { pending, completed, detached };
mtype phase = pending;
bool claimed;
byte references = 1;       // the coroutine's frame owns the call
bool in_pool, in_lane;     // with a reference each
bool on_loop;              // in the loop's queue, with a reference
bool loop_closed;
bool withdrawn, abandoned, in_flight;

byte runs, discards, resumptions, drops;
bool refused;              // the outcome is operation_aborted
bool told_cancelled;       // cancel() has claimed it
bool running;

bool inner_attached, undelivered;   // inner_mutex_
byte inner_calls = 2;      // nested calls that the callable makes
bool cancelled_inner;
bool owed;                 // a nested call is still to come that must hear of the cancellation

#define USE assert(references > 0)

inline release() { atomic { USE; references-- } }

inline claim(got) {
  USE;
#if defined(RUNS_UNCLAIMED)
  got = true
#else
  atomic { got = !claimed; claimed = true }
#endif
}

inline discard() { atomic { USE; discards++; assert(discards == 1 && !running) } }

inline deliver() {
  atomic {
    USE;
    if
    :: !loop_closed -> assert(!on_loop); on_loop = true
    :: else -> references--  // undeliverable()
    fi
  }
}

// Takes the reference of the one who calls it.
inline complete() {
#ifdef COMPLETES_BY_STORE
  USE;
  phase = completed;
  deliver()
#else
  if
  :: atomic { phase == pending -> USE; phase = completed }; deliver()
  :: atomic { phase != pending -> USE }; release()
  fi
#endif
}

inline run_callable() {
  atomic { runs++; running = true; assert(runs == 1 && !told_cancelled) };
  do
  :: inner_calls > 0 ->
     // attach(), then the nested call, then detach()
     atomic {
       USE;
       inner_attached = true;
#ifndef LOSES_THE_GAP
       if :: undelivered -> undelivered = false; cancelled_inner = true :: else fi
#endif
     };
     atomic { inner_attached = false; inner_calls-- }
  :: inner_calls == 0 -> break
  od;
  running = false;
  discard();
  complete()
}

// A worker, or the blocked thread: what it takes out of its queue comes with the queue's reference.
inline serve_from(queue) {
  bool got = false;
  if
  :: atomic { queue -> queue = false; USE };
     claim(got);
     if
     :: got -> run_callable()
     :: !got -> release()
     fi
  :: !queue
  fi
}

proctype worker() { serve_from(in_pool) }
proctype blocked() { serve_from(in_lane) }

inline withdraw() {
#ifndef LEAVES_COPIES
  atomic { USE; if :: in_pool -> in_pool = false; references-- :: else fi };
  atomic { USE; if :: in_lane -> in_lane = false; references-- :: else fi }
#else
  skip
#endif
}

inline cancel_inner() {
  atomic {
    USE;
    if
    :: inner_attached -> cancelled_inner = true
    :: else -> undelivered = true; owed = owed || inner_calls > 0
    fi
  }
}

inline cancel() {
  if
  :: phase != pending
  :: phase == pending ->
     atomic { USE; references++ };  // self
     claim(mine);
#ifdef CANCELS_UNCLAIMED
     mine = true;
#endif
     if
     :: mine ->
        atomic { withdrawn = true; told_cancelled = true; references++ };
        refused = true;
        discard();
        complete()
     :: !mine ->
#if POLICY == ABANDON
        if
#ifdef ABANDONS_BY_STORE
        :: atomic { USE; phase = detached };
#else
        :: atomic { phase == pending -> USE; phase = detached };
#endif
           abandoned = true;
#ifndef DELIVERS_WITHOUT_OWNING
           atomic { USE; references++ };
#endif
           deliver()
#ifndef ABANDONS_BY_STORE
        :: atomic { phase != pending -> USE }
#endif
        fi;
#endif
        cancel_inner()
     fi;
     release()
  fi
}

inline orphaned() {
  atomic { USE; references++ };
  bool was_pending = false;
  atomic { if :: phase == pending -> phase = detached; was_pending = true :: else fi };
  claim(mine);
  if
  :: mine -> withdraw(); discard()
  :: !mine ->
     if :: was_pending -> cancel_inner() :: !was_pending fi
  fi;
  atomic { drops++; references-- };  // the frame goes, and its reference
  release()
}

// The awaiting loop: one thread.
active proctype awaiting_loop() {
  bool mine, open;
  byte cancels = 2;
  in_flight = true;
  atomic { references++; in_pool = true; run worker() };
  // The pool was saturated, so it is offered, too; the offer may find that the frame has gone.
  if
  :: atomic { references++; in_lane = true; run blocked() }
  :: skip
  fi;
  do
  :: cancels > 0 && resumptions == 0 -> cancels--; cancel()
  :: atomic { on_loop && resumptions == 0 -> on_loop = false; in_flight = false };
     // arrive(): arrived(), then the coroutine takes the result and ends
     withdraw();
     assert(phase != pending && !in_pool && !in_lane);
     if
     :: abandoned -> assert(phase == detached)
     :: !abandoned -> assert(phase == completed && !running && discards == 1); assert(refused == (runs == 0))
     fi;
     release();
     atomic { resumptions++; references-- };
     break
  :: !on_loop || resumptions > 0 ->
     // loop::close(): what is queued is dropped, then what is in flight.
     atomic { loop_closed = true; open = on_loop; on_loop = false };
     if
     :: open -> withdraw(); drops++; release(); release()
     :: !open -> orphaned()
     fi;
     break
  od
}

active proctype at_the_end() {
  timeout;
  assert(resumptions + drops == 1);
  assert(discards == 1);
  assert(references == 0 && !in_pool && !in_lane && !on_loop);
  assert(runs <= 1);
  assert(!owed || cancelled_inner)
}
