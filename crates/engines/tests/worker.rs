//! Workers as the gateway runs them: real processes, started from this test binary, each fault costing one invocation.
//!
//! The worker is this very binary, which runs its one hidden test [`worker_entry`] or [`function_entry`] when the pool starts it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only the test functions themselves for tests"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use linkspan_engines::host::event::{DocumentRef, Event, Performed};
use linkspan_engines::host::{Invocation, Limits, Source, Stats, WorkerPool, WorkerSpec};
use linkspan_engines::sandbox::Level;
use linkspan_engines::{Builtin, EngineError, Input, Isolation, Work, worker};
use linkspan_model::answer::DetectedLanguage;
use linkspan_model::{Answer, Code, Task};
use rustix::process::{WaitId, WaitIdOptions};
use serde_json::{Map, json};

const ENTRY: &str = "LINKSPAN_TEST_ENTRY";

// === the worker's side ===

#[test]
fn worker_entry() {
    if std::env::var(ENTRY).as_deref() == Ok("worker") {
        let code = worker::run(Box::new(Obedient));
        std::process::exit(i32::from(code != ExitCode::SUCCESS));
    }
}

/// An engine that does what its text says.
struct Obedient;

impl Builtin for Obedient {
    fn task(&self) -> Task {
        Task::DetectLanguage
    }

    fn label(&self) -> String {
        "test/obedient 1".to_owned()
    }

    fn isolation(&self) -> Isolation {
        Isolation::Worker
    }

    fn perform(&self, work: &Work<'_>) -> Result<Answer, EngineError> {
        let said = match work.input {
            Input::Document(document) => String::from_utf8_lossy(document.bytes).into_owned(),
            Input::Text(text) => {
                let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
                obey(verb, rest)?
            }
        };
        Ok(Answer::DetectLanguage(DetectedLanguage {
            language: said,
            confidence: 1.0,
            alternatives: Vec::new(),
        }))
    }
}

fn obey(verb: &str, rest: &str) -> Result<String, EngineError> {
    let tried = |result: std::io::Result<()>| match result {
        Ok(()) => "allowed".to_owned(),
        Err(error) => error.kind().to_string(),
    };
    Ok(match verb {
        "echo" => rest.to_owned(),
        "pid" => std::process::id().to_string(),
        "refuse" => {
            return Err(
                EngineError::new(Code::PasswordRequired, "Give the password.")
                    .because("the library's words"),
            );
        }
        "abort" => std::process::abort(),
        "exit" => std::process::exit(rest.parse().unwrap()),
        "panic" => panic!("a document's secret"),
        "hang" => loop {
            std::thread::park();
        },
        "spin" => loop {
            std::hint::spin_loop();
        },
        "eat-memory" => {
            let mut eaten: Vec<Vec<u8>> = Vec::new();
            loop {
                eaten.push(vec![1; 16 << 20]);
            }
        }
        "eat-stack" => deeper(0).to_string(),
        "flood" => {
            let mut stderr = std::io::stderr().lock();
            let chunk = [b'x'; 64 << 10];
            for _ in 0..512 {
                stderr.write_all(&chunk).unwrap();
            }
            stderr.write_all(b"\nlinkspan-worker: flooded\n").unwrap();
            "done".to_owned()
        }
        "large" => "x".repeat(rest.parse().unwrap()),
        "thread" => std::thread::spawn(|| "a thread").join().unwrap().to_owned(),
        "read" => tried(std::fs::read(rest).map(drop)),
        "list" => tried(std::fs::read_dir(rest).map(drop)),
        "write" => tried(std::fs::write(rest, "caught")),
        "truncate" => tried(
            std::fs::File::options()
                .write(true)
                .truncate(true)
                .open(rest)
                .map(drop),
        ),
        "remove" => tried(std::fs::remove_file(rest)),
        "connect" => tried(TcpStream::connect(rest).map(drop)),
        "listen" => tried(std::net::TcpListener::bind("127.0.0.1:0").map(drop)),
        "datagram" => tried(std::net::UdpSocket::bind("127.0.0.1:0").map(drop)),
        "unix" => tried(std::os::unix::net::UnixStream::pair().map(drop)),
        "spawn" => tried(Command::new(rest).spawn().map(drop)),
        "exec" => tried(Err(std::os::unix::process::CommandExt::exec(
            &mut Command::new(rest),
        ))),
        #[cfg(target_os = "linux")]
        "signal-host" => {
            let host = rustix::process::getppid().unwrap();
            tried(rustix::process::test_kill_process(host).map_err(Into::into))
        }
        "env" => std::env::vars()
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
            .join(" "),
        _ => return Err(EngineError::new(Code::InvalidParameter, "No such verb.")),
    })
}

#[expect(unconditional_recursion, reason = "it is there to run out of stack")]
fn deeper(depth: u64) -> u64 {
    let here = std::hint::black_box([depth; 64]);
    deeper(depth + 1) + here[0]
}

/// A function as somebody would write it who knows only the AWS documentation: a new connection for each call, no token.
#[test]
fn function_entry() {
    if std::env::var(ENTRY).as_deref() != Ok("function") {
        return;
    }
    let call = |head: String, body: &str| -> (Vec<String>, String) {
        let host = std::env::var("AWS_LAMBDA_RUNTIME_API").unwrap();
        let mut stream = TcpStream::connect(&host).unwrap();
        write!(stream, "{head} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = BufReader::new(stream);
        let head = answer
            .by_ref()
            .lines()
            .map(Result::unwrap)
            .take_while(|line| !line.is_empty())
            .collect();
        let mut body = String::new();
        answer.read_to_string(&mut body).unwrap();
        (head, body)
    };
    loop {
        let (head, event) = call("GET /2018-06-01/runtime/invocation/next".to_owned(), "");
        let header = |name: &str| {
            head.iter().find_map(|line| {
                line.to_lowercase()
                    .strip_prefix(name)
                    .map(|v| v.trim().to_owned())
            })
        };
        let id = header("lambda-runtime-aws-request-id:").unwrap();
        for needed in [
            "lambda-runtime-deadline-ms:",
            "lambda-runtime-trace-id:",
            "lambda-runtime-invoked-function-arn:",
        ] {
            assert!(header(needed).is_some(), "{needed}");
        }
        let event: serde_json::Value = serde_json::from_str(&event).unwrap();
        let path = format!("/2018-06-01/runtime/invocation/{id}");
        if event["fail"] == true {
            call(
                format!("POST {path}/error"),
                r#"{"errorType":"ValueError","errorMessage":"a document's secret"}"#,
            );
        } else {
            let document = event["document"]["path"]
                .as_str()
                .map(|path| std::fs::read_to_string(path).unwrap());
            let answer = json!({ "got": event, "document": document, "name": std::env::var("AWS_LAMBDA_FUNCTION_NAME").unwrap() });
            call(format!("POST {path}/response"), &answer.to_string());
        }
    }
}

/// A host that has a worker at work, says which, and waits to be killed.
#[test]
fn host_entry() {
    if std::env::var(ENTRY).as_deref() != Ok("host") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut spec = spec("worker");
        spec.folders = std::env::var_os("FOLDERS").map(Into::into);
        let pool = WorkerPool::new(spec, limits()).unwrap();
        println!("\nWORKER {}", ask(&pool, "pid").await.unwrap());
        let _ = ask(&pool, "hang").await;
    });
}

// === the host's side ===

fn spec(entry: &str) -> WorkerSpec {
    let args = [
        format!("{entry}_entry"),
        "--exact".to_owned(),
        "--nocapture".to_owned(),
    ];
    let program = std::env::current_exe().unwrap();
    let mut spec = if entry == "worker" {
        WorkerSpec::own("test", program, args)
    } else {
        WorkerSpec::function("test", program, args)
    };
    spec.env.push((ENTRY.into(), entry.into()));
    spec
}

fn limits() -> Limits {
    Limits {
        max_workers: 1,
        start_timeout: Duration::from_secs(60),
        ..Limits::default()
    }
}

fn pool(limits: Limits) -> WorkerPool {
    WorkerPool::new(spec("worker"), limits).unwrap()
}

fn event(text: &str) -> Event {
    Event {
        task: Task::DetectLanguage,
        text: Some(text.to_owned()),
        document: None,
        options: Map::new(),
        params: Map::new(),
        claim: None,
    }
}

async fn ask(pool: &WorkerPool, text: &str) -> Result<String, EngineError> {
    ask_until(pool, text, None).await
}

async fn ask_until(
    pool: &WorkerPool,
    text: &str,
    deadline: Option<Instant>,
) -> Result<String, EngineError> {
    let invocation = Invocation {
        deadline,
        ..Invocation::default()
    };
    pool.perform(&event(text), &invocation)
        .await
        .map(|performed| said(&performed))
}

fn said(performed: &Performed) -> String {
    assert_eq!(performed.engine, "test/obedient 1");
    performed.answer["language"].as_str().unwrap().to_owned()
}

/// Waits until what the pool counts is as it should be.
async fn until(pool: &WorkerPool, what: &str, is: impl Fn(Stats) -> bool) {
    let waited = Instant::now();
    while !is(pool.stats()) {
        assert!(
            waited.elapsed() < Duration::from_secs(60),
            "{what}: {:?}",
            pool.stats()
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warm_worker_is_used_again() {
    let pool = pool(limits());
    let first = ask(&pool, "pid").await.unwrap();
    for _ in 0..5 {
        assert_eq!(ask(&pool, "pid").await.unwrap(), first);
    }
    assert_eq!(
        ask(&pool, "echo Grüße aus Ærø").await.unwrap(),
        "Grüße aus Ærø"
    );
    let stats = pool.stats();
    assert_eq!(
        (
            stats.cold_starts,
            stats.invocations,
            stats.running,
            stats.busy,
            stats.crashed
        ),
        (1, 7, 1, 0, 0)
    );
    assert!(stats.cold_start_mean().unwrap() > Duration::ZERO);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_costs_its_own_invocation_only() {
    let pool = pool(Limits {
        memory: 256 << 20,
        ..limits()
    });
    let faults = [
        ("refuse", Code::PasswordRequired, "Give the password."),
        ("abort", Code::EngineCrashed, "SIGABRT"),
        ("exit 0", Code::EngineCrashed, "exit code 0"),
        ("exit 3", Code::EngineCrashed, "exit code 3"),
        (
            "panic",
            Code::EngineCrashed,
            "a panic at crates/engines/tests/worker.rs",
        ),
        ("eat-memory", Code::MemoryLimit, "memory"),
        ("eat-stack", Code::EngineCrashed, "out of stack"),
        ("no-such-verb", Code::InvalidParameter, "No such verb."),
    ];
    for (text, code, detail) in faults {
        let error = ask(&pool, text).await.unwrap_err();
        assert_eq!(error.code, code, "{text}: {}", error.detail);
        assert!(
            error.detail.contains(detail) && !error.detail.contains("secret"),
            "{text}: {}",
            error.detail
        );
        assert_eq!(
            ask(&pool, "echo still here").await.unwrap(),
            "still here",
            "after {text}"
        );
    }
    until(&pool, "six workers ended by themselves", |stats| {
        stats.crashed == 6 && stats.running == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hang_ends_at_the_time_limit() {
    let pool = pool(Limits {
        time_limit: Duration::from_secs(1),
        ..limits()
    });
    for text in ["hang", "spin"] {
        let error = ask(&pool, text).await.unwrap_err();
        assert_eq!(error.code, Code::EngineTimeout, "{}", error.detail);
    }
    until(&pool, "the late workers are gone", |stats| {
        stats.timed_out == 2 && stats.running == 0 && stats.crashed == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hang_ends_at_the_callers_deadline_and_the_next_one_is_served() {
    let pool = pool(limits());
    // The deadline begins when the worker is there: how long its start takes is the machine's affair.
    assert_eq!(ask(&pool, "echo warm").await.unwrap(), "warm");
    let soon = Instant::now() + Duration::from_secs(1);
    assert_eq!(
        ask_until(&pool, "hang", Some(soon)).await.unwrap_err().code,
        Code::DeadlineExceeded
    );
    assert_eq!(ask(&pool, "echo on").await.unwrap(), "on");
    until(&pool, "the late worker is gone", |stats| {
        stats.timed_out == 1 && stats.running == 1 && stats.crashed == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_holds_while_waiting_for_a_worker() {
    let pool = Arc::new(pool(limits()));
    let busy = tokio::spawn({
        let pool = pool.clone();
        async move { ask(&pool, "hang").await }
    });
    until(&pool, "the worker is busy", |stats| stats.busy == 1).await;
    let soon = Instant::now() + Duration::from_millis(50);
    assert_eq!(
        ask_until(&pool, "echo late", Some(soon))
            .await
            .unwrap_err()
            .code,
        Code::DeadlineExceeded
    );
    assert_eq!(pool.stats().waiting, 0);
    busy.abort();
    assert_eq!(ask(&pool, "echo free").await.unwrap(), "free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn giving_up_kills_the_worker_and_frees_its_place() {
    let pool = Arc::new(pool(limits()));
    let first = ask(&pool, "pid").await.unwrap();
    let given_up = tokio::spawn({
        let pool = pool.clone();
        async move { ask(&pool, "hang").await }
    });
    until(&pool, "it hangs", |stats| stats.invocations == 2).await;
    given_up.abort();
    assert_ne!(ask(&pool, "pid").await.unwrap(), first);
    until(&pool, "the first worker is gone", |stats| {
        stats.running == 1 && stats.busy == 0
    })
    .await;
    assert!(!is_there(&first));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_workers_work_than_may_and_the_rest_wait_their_turn() {
    let pool = Arc::new(pool(Limits {
        max_workers: 2,
        ..limits()
    }));
    let begin = |text: &'static str| {
        let pool = pool.clone();
        tokio::spawn(async move { ask(&pool, text).await })
    };
    let hanging = [begin("hang"), begin("hang")];
    until(&pool, "both work", |stats| stats.invocations == 2).await;
    let waiting = begin("echo at last");
    until(&pool, "one waits", |stats| {
        stats.waiting == 1 && stats.running == 2
    })
    .await;
    hanging[0].abort();
    assert_eq!(waiting.await.unwrap().unwrap(), "at last");
    hanging[1].abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_are_recycled() {
    let pool = pool(Limits {
        recycle_after: 2,
        ..limits()
    });
    let mut pids = Vec::new();
    for _ in 0..4 {
        pids.push(ask(&pool, "pid").await.unwrap());
    }
    assert!(
        pids[0] == pids[1] && pids[1] != pids[2] && pids[2] == pids[3],
        "{pids:?}"
    );
    until(&pool, "both have ended", |stats| {
        stats.recycled == 2 && stats.running == 0 && stats.crashed == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_end_when_idle() {
    let pool = pool(Limits {
        idle_timeout: Duration::from_millis(100),
        ..limits()
    });
    for starts in 1..=2 {
        assert_eq!(ask(&pool, "echo and idle").await.unwrap(), "and idle");
        until(&pool, "none is left", |stats| stats.running == 0).await;
        let stats = pool.stats();
        assert_eq!(
            (stats.idled_out, stats.cold_starts, stats.crashed),
            (starts, starts, 0)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_died_while_idle_is_replaced_unseen() {
    let pool = pool(limits());
    for _ in 0..10 {
        let pid = ask(&pool, "pid").await.unwrap();
        let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        // Dead, and perhaps not yet reaped.
        let dead = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let _ = rustix::process::waitid(WaitId::Pid(pid), dead);
        assert_eq!(ask(&pool, "echo unhurt").await.unwrap(), "unhurt");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_on_standard_error_and_an_answer_over_the_limit_do_no_harm() {
    let pool = pool(Limits {
        max_answer: 1 << 20,
        ..limits()
    });
    assert_eq!(ask(&pool, "flood").await.unwrap(), "done");
    assert_eq!(ask(&pool, "large 1000000").await.unwrap().len(), 1_000_000);
    let error = ask(&pool, "large 1100000").await.unwrap_err();
    assert_eq!(error.code, Code::DocumentTooComplex, "{}", error.detail);
    assert_eq!(ask(&pool, "echo on").await.unwrap(), "on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_is_in_the_workers_folder_for_its_invocation_only() {
    let folders = tempfile::tempdir().unwrap();
    let mut spec = spec("worker");
    spec.folders = Some(folders.path().to_owned());
    let pool = WorkerPool::new(spec, limits()).unwrap();
    let bill = folders.path().join("bill.txt");
    std::fs::write(&bill, "a bill").unwrap();
    let event = Event {
        text: None,
        document: Some(DocumentRef {
            media_type: Some("text/plain".to_owned()),
            ..DocumentRef::default()
        }),
        ..event("")
    };
    for document in [Source::File(bill.clone()), Source::Bytes("a bill".into())] {
        let invocation = Invocation {
            document: Some(document),
            ..Invocation::default()
        };
        assert_eq!(
            said(&pool.perform(&event, &invocation).await.unwrap()),
            "a bill"
        );
        assert_eq!(files_below(folders.path()), ["bill.txt"]);
    }
    let missing = Invocation {
        document: Some(Source::File(folders.path().join("gone"))),
        ..Invocation::default()
    };
    assert_eq!(
        pool.perform(&event, &missing).await.unwrap_err().code,
        Code::Internal
    );
    pool.shutdown().await;
    drop(pool);
    assert_eq!(
        std::fs::read_dir(folders.path()).unwrap().count(),
        1,
        "only the bill stays"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_lets_work_finish_and_takes_no_more() {
    let pool = Arc::new(pool(Limits {
        time_limit: Duration::from_millis(400),
        ..limits()
    }));
    let last = tokio::spawn({
        let pool = pool.clone();
        async move { ask(&pool, "hang").await }
    });
    until(&pool, "it works", |stats| stats.invocations == 1).await;
    pool.shutdown().await;
    assert_eq!(
        last.await.unwrap().unwrap_err().code,
        Code::EngineTimeout,
        "it had its time"
    );
    assert_eq!(pool.stats().running, 0);
    assert_eq!(
        ask(&pool, "echo more").await.unwrap_err().code,
        Code::ShuttingDown
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_pool_leaves_no_process() {
    let pool = pool(limits());
    let pid = ask(&pool, "pid").await.unwrap();
    assert!(is_there(&pid));
    drop(pool);
    let waited = Instant::now();
    while is_there(&pid) {
        assert!(waited.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_host_takes_its_workers_with_it_and_its_folder_is_removed_by_the_next() {
    let folders = tempfile::tempdir().unwrap();
    let mut host = Command::new(std::env::current_exe().unwrap())
        .args(["host_entry", "--exact", "--nocapture"])
        .env(ENTRY, "host")
        .env("FOLDERS", folders.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(host.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let worker = lines
        .find_map(|line| line.strip_prefix("WORKER ").map(str::to_owned))
        .unwrap();
    assert!(runs(&worker));
    host.kill().unwrap();
    host.wait().unwrap();
    let waited = Instant::now();
    while runs(&worker) {
        assert!(waited.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(
        std::fs::read_dir(folders.path()).unwrap().count(),
        1,
        "a killed host cannot clean up"
    );
    let mut spec = spec("worker");
    spec.folders = Some(folders.path().to_owned());
    drop(WorkerPool::new(spec, limits()).unwrap());
    assert_eq!(std::fs::read_dir(folders.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_does_not_serve_is_unavailable() {
    let starts = |program: &str, args: &[&str]| {
        WorkerPool::new(WorkerSpec::own("test", program, args), limits()).unwrap()
    };
    for (program, args) in [
        ("/nonexistent/program", &[][..]),
        ("/bin/false", &[]),
        ("/bin/sh", &["-c", "kill -9 $$"]),
    ] {
        let error = ask(&starts(program, args), "echo").await.unwrap_err();
        assert_eq!(
            error.code,
            Code::EngineUnavailable,
            "{program}: {}",
            error.detail
        );
    }
    let says = starts(
        "/bin/sh",
        &["-c", "echo 'linkspan-worker: no library' >&2; exit 1"],
    );
    assert!(
        ask(&says, "echo")
            .await
            .unwrap_err()
            .detail
            .contains("no library")
    );
    let sleeps = WorkerSpec::own("test", "/bin/sleep", ["60"]);
    let sleeps = WorkerPool::new(
        sleeps,
        Limits {
            start_timeout: Duration::from_millis(50),
            ..limits()
        },
    )
    .unwrap();
    assert_eq!(
        ask(&sleeps, "echo").await.unwrap_err().code,
        Code::EngineUnavailable
    );
    until(&sleeps, "it was killed", |stats| {
        stats.running == 0 && stats.failed_starts == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outside_program_that_knows_only_the_runtime_api_is_hosted_unchanged() {
    let folders = tempfile::tempdir().unwrap();
    let mut spec = spec("function");
    spec.task_root = Some(folders.path().to_owned());
    let pool = WorkerPool::new(spec, limits()).unwrap();
    let invocation = Invocation {
        document: Some(Source::Bytes("a bill".into())),
        ..Invocation::default()
    };
    for n in 0..3 {
        let answer = pool.invoke(&json!({ "n": n }), &invocation).await.unwrap();
        assert_eq!(
            (&answer["got"]["n"], &answer["document"], &answer["name"]),
            (&json!(n), &json!("a bill"), &json!("test"))
        );
    }
    let error = pool
        .invoke(&json!({ "fail": true }), &Invocation::default())
        .await
        .unwrap_err();
    assert_eq!(
        (error.code, error.detail.as_str()),
        (Code::EngineCrashed, "The function failed with ValueError.")
    );
    assert!(
        pool.invoke(&json!({}), &Invocation::default())
            .await
            .is_ok()
    );
    assert_eq!(
        pool.stats().cold_starts,
        1,
        "an error of the function does not end it"
    );
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_reaches_nothing_but_its_document() {
    let outside = tempfile::tempdir().unwrap();
    let file = outside.path().join("secret");
    std::fs::write(&file, "secret").unwrap();
    let file = file.to_str().unwrap();
    let pool = pool(limits());
    assert_eq!(
        ask(&pool, "thread").await.unwrap(),
        "a thread",
        "what engines need is allowed"
    );
    let landlocked = pool
        .enforcement()
        .unwrap()
        .protection("landlock")
        .unwrap()
        .level
        > Level::Missing;
    let file_verbs: &[&str] = if landlocked {
        &[
            "read /etc/passwd",
            "list /",
            "read {}",
            "write {}-2",
            "truncate {}",
            "remove {}",
        ]
    } else {
        &[]
    };
    let verbs = [
        "connect 127.0.0.1:1",
        "listen",
        "datagram",
        "unix",
        "spawn /bin/true",
        "exec /bin/true",
        "signal-host",
        "write caught",
    ];
    for verb in file_verbs.iter().chain(&verbs) {
        let outcome = ask(&pool, &verb.replace("{}", file)).await.unwrap();
        assert!(
            ["permission denied", "file too large"].contains(&outcome.as_str()),
            "{verb}: {outcome}"
        );
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), "secret");
    let env = ask(&pool, "env").await.unwrap();
    assert!(
        !env.contains("CARGO") && env.contains("OMP_THREAD_LIMIT"),
        "{env}"
    );
    assert_eq!(
        pool.stats().cold_starts,
        1,
        "a refusal does not end a worker"
    );
}

fn is_there(pid: &str) -> bool {
    let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
    rustix::process::test_kill_process(pid).is_ok()
}

/// Whether a process is there and is more than an entry that nobody has reaped.
#[cfg(target_os = "linux")]
fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.trim().is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_below(&entry.path()));
        } else {
            found.push(entry.file_name().into_string().unwrap());
        }
    }
    found
}
