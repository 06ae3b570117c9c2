//! What keeps an evaluation within its limits.
//!
//! The interpreter looks its program up at each step, through [`Run`]. That is where steps, time and depth are counted; an evaluation
//! that is over a limit is unwound from there.

use std::cell::Cell;
use std::marker::PhantomData;
use std::panic;
use std::time::Duration;

use jaq_core::data::HasLut;
use jaq_core::{DataT, Lut};
use jaq_json::Val;
use rustix::time::{ClockId, clock_gettime};

/// The stack of a thread that evaluates. Only what is used of it takes memory.
pub(super) const STACK: usize = 512 << 20;

/// How much of the stack an evaluation may use: the rest is for dropping values that are nested as deeply as the steps allow.
const DEPTH: usize = 64 << 20;

/// How many steps an evaluation may take.
const STEPS: u32 = 4_000_000;

/// The data of an evaluation, as the interpreter wants it described.
pub(super) struct Running(PhantomData<()>);

impl DataT for Running {
    type V<'a> = Val;
    type Data<'a> = Run<'a>;
}

/// One evaluation: its program and what it may still use.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) program: &'a Lut<Running>,
    pub(super) budget: &'a Budget,
}

impl<'a> HasLut<'a, Running> for Run<'a> {
    fn lut(&self) -> &'a Lut<Running> {
        self.budget.step();
        self.program
    }
}

/// What an evaluation may still use.
pub(super) struct Budget {
    steps: Cell<u32>,
    end: Duration,
    bottom: usize,
}

/// Why an evaluation was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    Time,
    Steps,
    Depth,
}

impl Budget {
    /// A budget for an evaluation that starts here and now, on this thread.
    pub(super) fn new(time: Duration) -> Self {
        Self {
            steps: Cell::new(STEPS),
            end: worked() + time,
            bottom: stack_address(),
        }
    }

    /// Takes a step; unwinds where a limit is reached.
    pub(super) fn step(&self) {
        let left = self.steps.get();
        if left == 0 {
            stop(Stopped::Steps);
        }
        self.steps.set(left - 1);
        if stack_address().abs_diff(self.bottom) > DEPTH {
            stop(Stopped::Depth);
        }
        if left.is_multiple_of(1024) && worked() >= self.end {
            stop(Stopped::Time);
        }
    }
}

impl Stopped {
    pub(super) fn sentence(self) -> String {
        match self {
            Self::Time => "the filter takes too much processor time".to_owned(),
            Self::Steps => format!("the filter takes more than {STEPS} steps"),
            Self::Depth => "the filter calls itself too deeply".to_owned(),
        }
    }
}

/// Leaves the evaluation without a panic's message.
fn stop(why: Stopped) -> ! {
    panic::resume_unwind(Box::new(why))
}

/// The processor time that this thread has taken.
fn worked() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

#[inline(never)]
fn stack_address() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}
