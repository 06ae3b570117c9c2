//! jq filters over result documents: `when`, `map` and `request` of a channel.
//!
//! A filter sees its input and nothing else: no file, no environment, no other input, no log (see [`library`]). It is bounded in
//! processor time, steps, depth and output (see [`bounds`]), on a thread of its own. What the interpreter cannot be stopped in (one long
//! comparison, one long regular expression) is left behind after [`TIME_LIMIT`]: while such an evaluation still runs, its filter is not
//! evaluated again.
//!
//! What is not bounded is memory: a filter that doubles a text with each step can take what the process may take. Filters are the
//! operator's own, as the rest of the configuration.

mod bounds;
mod library;
mod output;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jaq_core::load::parse::{BinaryOp, Term};
use jaq_core::load::{Arena, File, Loader, import, span};
use jaq_core::{Compiler, Ctx, Vars, load};
use jaq_json::Val;
use serde::Deserialize as _;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};

use bounds::{Budget, Run, Running, Stopped};

/// How long an answer is waited for at most; an evaluation that can be stopped is stopped long before.
pub const TIME_LIMIT: Duration = Duration::from_secs(5);

/// How much processor time an evaluation may take: on a busy machine, waiting for a processor is not its fault.
const WORK_LIMIT: Duration = Duration::from_secs(1);

/// How many evaluations run at once; more wait their turn.
static PLACES: Semaphore = Semaphore::const_new(16);

/// How many evaluations there were.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// The name of the threads that evaluate.
const THREAD: &str = "linkspan-jq";

/// Why a filter gives no output: a sentence that holds nothing of the input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct FilterError {
    /// The sentence.
    pub sentence: String,
    /// Whether it could not be evaluated just now, whatever the input: the same may be asked again.
    pub passes: bool,
}

/// A compiled filter. Cheap to clone: all clones are one filter.
#[derive(Clone)]
pub struct Filter(Arc<Compiled>);

struct Compiled {
    text: String,
    work: Duration,
    patience: Duration,
    program: jaq_core::Filter<Running>,
    /// When each evaluation that is under way started.
    running: Mutex<BTreeSet<(Instant, u64)>>,
}

type Reader<T> = fn(&Compiled, Option<Val>) -> Result<T, String>;

impl Filter {
    /// Compiles a filter.
    ///
    /// # Errors
    ///
    /// What is wrong, at which line and column of the filter, and the text there.
    pub fn compile(text: &str) -> Result<Self, String> {
        Self::compile_with(text, WORK_LIMIT, TIME_LIMIT)
    }

    /// Compiles a filter that is to give true or false.
    ///
    /// # Errors
    ///
    /// As [`Filter::compile`], and where it is an assignment.
    pub fn compile_condition(text: &str) -> Result<Self, String> {
        let filter = Self::compile(text)?;
        let term = load::parse(text, |parser| parser.term());
        match term.as_ref().and_then(assignment) {
            None => Ok(filter),
            Some(operator) => Err(format!(
                "{operator} is an assignment: it gives the changed document, not true or false; did you mean == ?"
            )),
        }
    }

    fn compile_with(text: &str, work: Duration, patience: Duration) -> Result<Self, String> {
        let arena = Arena::default();
        let modules = Loader::new(library::definitions())
            .load(
                &arena,
                File {
                    code: text,
                    path: (),
                },
            )
            .map_err(|errors| first_fault(text, errors, in_loading))?;
        import(&modules, |_| Err("no file can be read here".to_owned()))
            .map_err(|errors| first_fault(text, errors, in_loading))?;
        let program = Compiler::default()
            .with_funs(library::functions())
            .compile(modules)
            .map_err(|errors| first_fault(text, errors, in_names))?;
        Ok(Self(Arc::new(Compiled {
            text: text.to_owned(),
            work,
            patience,
            program,
            running: Mutex::default(),
        })))
    }

    /// The filter's first output; none where it has none. Dropping the future leaves the evaluation to its limits.
    ///
    /// # Errors
    ///
    /// Why it gives none.
    pub async fn run_limited(&self, input: &Value) -> Result<Option<Value>, FilterError> {
        self.wait(input, value).await
    }

    /// Whether the first output is true; null and no output are false.
    ///
    /// # Errors
    ///
    /// As [`Filter::run_limited`], and where the output is of another kind: who wrote `=` for `==` would have everything.
    pub async fn is_true_limited(&self, input: &Value) -> Result<bool, FilterError> {
        self.wait(input, truth).await
    }

    /// [`Filter::run_limited`] over many inputs, each with the limits of its own: gives an answer for each, in order.
    pub async fn run_each(&self, inputs: &[&Value]) -> Vec<Result<Option<Value>, FilterError>> {
        self.each(inputs, value).await
    }

    /// [`Filter::is_true_limited`] over many inputs.
    pub async fn are_true(&self, inputs: &[&Value]) -> Vec<Result<bool, FilterError>> {
        self.each(inputs, truth).await
    }

    async fn wait<T: Send + 'static>(
        &self,
        input: &Value,
        read: Reader<T>,
    ) -> Result<T, FilterError> {
        let mut answers = self.each(&[input], read).await;
        answers.pop().unwrap_or_else(|| Err(self.too_long()))
    }

    /// Evaluates one after the other on one thread. An evaluation that does not come to an end is left behind with its thread.
    async fn each<T: Send + 'static>(
        &self,
        inputs: &[&Value],
        read: Reader<T>,
    ) -> Vec<Result<T, FilterError>> {
        // The semaphore is never closed.
        let _place = PLACES.acquire().await.ok();
        let mut answers = Vec::with_capacity(inputs.len());
        while answers.len() < inputs.len() {
            let (tell, mut told) = mpsc::unbounded_channel();
            if let Err(sentence) = self.start(&inputs[answers.len()..], read, tell) {
                let passes = true;
                let error = FilterError { sentence, passes };
                answers.resize_with(inputs.len(), || Err(error.clone()));
                break;
            }
            loop {
                match tokio::time::timeout(self.0.patience, told.recv()).await {
                    Ok(Some(answer)) => answers.push(answer.map_err(FilterError::from)),
                    Ok(None) if answers.len() == inputs.len() => break,
                    _ => {
                        answers.push(Err(self.too_long()));
                        break;
                    }
                }
            }
        }
        answers
    }

    fn too_long(&self) -> FilterError {
        format!("the filter takes longer than {:?}", self.0.patience).into()
    }

    /// Starts the evaluations. Nobody's listening any more ends them. An error is one of now, and not of the inputs.
    fn start<T: Send + 'static>(
        &self,
        inputs: &[&Value],
        read: Reader<T>,
        tell: mpsc::UnboundedSender<Result<T, String>>,
    ) -> Result<(), String> {
        let now = Instant::now();
        if self.0.has_stuck(now) {
            return Err(
                "an earlier evaluation of the filter did not come to an end and still runs; until it does, the filter is not \
                 evaluated again"
                    .to_owned(),
            );
        }
        let inputs: Vec<_> = inputs
            .iter()
            .map(|input| Val::deserialize(*input))
            .collect();
        quiet_panics();
        let compiled = self.0.clone();
        // Under way from here on, whenever the thread gets its turn: whoever waits counts from here too.
        let first = compiled.begin(now);
        thread::Builder::new()
            .name(THREAD.to_owned())
            .stack_size(bounds::STACK)
            .spawn(move || {
                let mut under_way = first;
                let mut inputs = inputs.into_iter().peekable();
                while let Some(input) = inputs.next() {
                    let answer = match input {
                        Ok(input) => compiled.evaluate(input, read),
                        Err(_) => Err("the input is not JSON for jq".to_owned()),
                    };
                    compiled.running().remove(&under_way);
                    if inputs.peek().is_some() {
                        under_way = compiled.begin(Instant::now());
                    }
                    if tell.send(answer).is_err() {
                        break;
                    }
                }
                compiled.running().remove(&under_way);
            })
            .map(|_| ())
            .map_err(|_| {
                self.0.running().remove(&first);
                "no thread is to be had for the evaluation".to_owned()
            })
    }
}

/// It would give none again.
impl From<String> for FilterError {
    fn from(sentence: String) -> Self {
        let passes = false;
        Self { sentence, passes }
    }
}

impl Compiled {
    fn running(&self) -> MutexGuard<'_, BTreeSet<(Instant, u64)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an evaluation goes on that nobody waits for any more.
    fn has_stuck(&self, now: Instant) -> bool {
        self.running()
            .first()
            .is_some_and(|(start, _)| now.duration_since(*start) >= self.patience)
    }

    /// An evaluation is under way since then.
    fn begin(&self, since: Instant) -> (Instant, u64) {
        let under_way = (since, COUNT.fetch_add(1, Ordering::Relaxed));
        self.running().insert(under_way);
        under_way
    }

    fn evaluate<T>(&self, input: Val, read: Reader<T>) -> Result<T, String> {
        let budget = Budget::new(self.work);
        let work = AssertUnwindSafe(|| {
            let run = Run {
                program: &self.program.lut,
                budget: &budget,
            };
            let context = Ctx::<Running>::new(run, Vars::new([]));
            match self.program.id.run((context, input)).next() {
                None => read(self, None),
                Some(Ok(output)) => read(self, Some(output)),
                Some(Err(exception)) => Err(exception.get_err().map_or_else(
                    |_| "the filter stops without an output".to_owned(),
                    |error| output::describe(&error, &self.text),
                )),
            }
        });
        panic::catch_unwind(work).unwrap_or_else(|thrown| {
            Err(match thrown.downcast_ref::<Stopped>() {
                Some(stopped) => stopped.sentence(),
                None => "the filter's interpreter met a fault of its own".to_owned(),
            })
        })
    }
}

/// The assignment that gives a term's output, where one does.
fn assignment(term: &Term<&str>) -> Option<&'static str> {
    match term {
        Term::Def(_, body) => assignment(body),
        Term::BinOp(_, operator, right) => match operator {
            BinaryOp::Pipe(_) => assignment(right),
            BinaryOp::Assign => Some("="),
            BinaryOp::Update => Some("|="),
            BinaryOp::UpdateMath(_) => Some("an operator such as +="),
            BinaryOp::UpdateAlt => Some("//="),
            _ => None,
        },
        _ => None,
    }
}

fn value(_: &Compiled, output: Option<Val>) -> Result<Option<Value>, String> {
    output.map(|output| output::to_json(&output)).transpose()
}

fn truth(_: &Compiled, output: Option<Val>) -> Result<bool, String> {
    match output {
        None | Some(Val::Null) => Ok(false),
        Some(Val::Bool(truth)) => Ok(truth),
        Some(other) => Err(format!(
            "it gives {}, not true or false",
            output::kind(&other)
        )),
    }
}

/// Keeps a panic of the interpreter from printing its message, which may quote the input.
fn quiet_panics() {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if thread::current().name() != Some(THREAD) {
                others(info);
            }
        }));
    });
}

/// The first fault of a filter, with its place.
fn first_fault<'t, E>(
    text: &'t str,
    errors: load::Errors<&'t str, (), E>,
    read: fn(E) -> Option<(&'t str, String)>,
) -> String {
    match errors.into_iter().find_map(|(_, error)| read(error)) {
        Some((part, what)) => format!("{what}, {}", place(text, part)),
        None => "the filter cannot be read".to_owned(),
    }
}

fn in_loading(error: load::Error<&str>) -> Option<(&str, String)> {
    match error {
        load::Error::Io(errors) => errors
            .into_iter()
            .next()
            .map(|(part, _)| (part, "a filter cannot read other files".to_owned())),
        load::Error::Lex(errors) => errors
            .into_iter()
            .next()
            .map(|(expected, part)| (part, format!("expected {}", expected.as_str()))),
        load::Error::Parse(errors) => errors
            .into_iter()
            .next()
            .map(|(expected, part)| (part, format!("expected {}", expected.as_str()))),
    }
}

fn in_names(errors: Vec<jaq_core::compile::Error<&str>>) -> Option<(&str, String)> {
    let (part, kind) = errors.into_iter().next()?;
    let what = match kind {
        jaq_core::compile::Undefined::Filter(arguments) => {
            let known = if library::is_left_out(part) {
                "is not to be had here: a filter sees its input and nothing else"
            } else {
                "is not known"
            };
            format!("the filter {part}/{arguments} {known}")
        }
        other => format!("the {} {part} is not known", other.as_str()),
    };
    Some((part, what))
}

/// Where a part of a text begins, and what is written there.
fn place(text: &str, part: &str) -> String {
    let start = span(text, part).start.min(text.len());
    let before = text.get(..start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .map_or(0, |line| line.chars().count())
        + 1;
    let here: String = text
        .get(start..)
        .unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(24)
        .collect();
    if here.is_empty() {
        format!("at line {line}, column {column} (the end)")
    } else {
        format!("at line {line}, column {column}: {here}")
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.0.text).finish()
    }
}
