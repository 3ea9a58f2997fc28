// SPDX-License-Identifier: BSL-1.0
//
// One thread parks until something has happened; others announce and unpark it.
//
//! mirrors src/parker.cpp parker::sleep parker::unpark
//
// A park returns "woken" only after an unpark, and "late" only if there was none; no wake is lost (else the owner sleeps
// for ever, an invalid end state); once park has returned, the parker may be destroyed under the one who woke it.
//
// A plain store may become visible to others after the reads that follow it: it goes through a store buffer of one entry,
// as on x86. Read-modify-writes go past none.
//
//! check
//! check  GONE_AFTER_WAKE
//! refute CONSUMES_BY_STORE        the token is consumed by a plain store, which wipes out a wake that came meanwhile
//! refute LATE_WITHOUT_LOOKING     a park whose time is over leaves without asking whether somebody woke it
//! refute BELIEVES_THE_KERNEL      whatever ends the futex wait is taken for a wake
//! refute SLEEPS_WITHOUT_COMPARING the kernel is not told what the word is expected to be
//! refute GONE_AFTER_WAKE LOOKS_BACK  unpark reads the word once more after it has woken the owner

#ifdef GONE_AFTER_WAKE
#define WAKERS 1
#else
#define WAKERS 3
#endif

mtype = { nothing, parked, token };  // `nothing` is parker::empty, which is a word of this language
mtype state_ = nothing;
bool store_pending;        // the owner's plain store of `empty` is still on its way
bool in_futex;             // the kernel has the owner asleep
byte interruptions = 2;    // signals, and wakes meant for what was at this address before
byte deadlines = 2;        // how many parks may run out of time

byte announced;
bool alive = true;         // the parker has not been destroyed
bool woken;                // an unpark has happened that no park has told of

#define TOUCH assert(alive)

active proctype store_buffer() {
end:
  do
  :: atomic { store_pending -> state_ = nothing; store_pending = false }
  od
}

inline return_woken() {
  assert(woken);
  woken = false;
  result = true;
}

// The owner's read-modify-writes wait until its store is out.
inline park() {
  bool late = false;
  if
  :: atomic { !store_pending && state_ == nothing -> TOUCH; state_ = parked };
     do
     :: atomic {
#ifdef SLEEPS_WITHOUT_COMPARING
          in_futex = true
#else
          if
          :: state_ == parked -> in_futex = true
          :: else  // EAGAIN
          fi
#endif
        };
        if
        :: !in_futex
        :: atomic { in_futex && interruptions > 0 -> interruptions--; in_futex = false }
        :: atomic { in_futex && deadlines > 0 -> deadlines--; in_futex = false; late = true }
        fi;
#ifdef BELIEVES_THE_KERNEL
        atomic { state_ = nothing; return_woken(); break }
#endif
        if
        :: atomic { state_ == token -> TOUCH; state_ = nothing; return_woken(); break }
        :: atomic { state_ != token -> TOUCH }
        fi;
        if
        :: late ->
#ifdef LATE_WITHOUT_LOOKING
           atomic { state_ = nothing; result = false; assert(!woken); break }
#else
           atomic {
             TOUCH;
             if
             :: state_ == token -> state_ = nothing; return_woken()
             :: else -> state_ = nothing; result = false; assert(!woken)
             fi;
             break
           }
#endif
        :: else
        fi
     od
  :: atomic { !store_pending && state_ != nothing -> TOUCH; assert(state_ == token) };
#ifdef CONSUMES_BY_STORE
     atomic { store_pending = true; return_woken() }
#else
     atomic { TOUCH; state_ = nothing; return_woken() }
#endif
  fi
}

active proctype owner() {
  bool result;
  do
#ifdef GONE_AFTER_WAKE
  :: park();
     if
     :: atomic { result -> alive = false; break }
     :: else
     fi
#else
  :: announced == WAKERS -> break
  :: announced != WAKERS -> park()
#endif
  od
}

active [WAKERS] proctype waker() {
  mtype before;
  announced++;
  atomic { TOUCH; before = state_; state_ = token; woken = true };
#ifdef LOOKS_BACK
  TOUCH; before = (state_ == token -> before : nothing);
#endif
  if
  :: before == parked -> in_futex = false  // FUTEX_WAKE uses the address, not the word
  :: else
  fi
}
