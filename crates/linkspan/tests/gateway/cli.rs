//! The command line: what it prints, where, and with which exit code.

use std::io::Write as _;
use std::process::{Output, Stdio};

use linkspan_testkit::{Gateway, Setup, fixture};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const TOML: &str = r#"
[server]
auth = "none"
[service.mood]
task = "sentiment"
[service.text]
task = "extract-text"
[integration.feedback]
pattern = "sync"
steps = ["mood"]
[integration.reading]
pattern = "sync"
steps = ["text"]
"#;

/// A folder with three reviews and an empty file.
fn setup() -> Setup {
    let setup = Setup::new(env!("CARGO_BIN_EXE_linkspan"), TOML);
    let files = [
        ("a-good.txt", "I love it. What a wonderful day!"),
        ("b-bad.txt", "I hate it. What a horrible, disgusting mess."),
        (
            "c-foreign.txt",
            "Das Schiff fährt um neun Uhr ab, und danach gibt es Kaffee und Kuchen im Speisesaal.",
        ),
        ("empty.csv", ""),
    ];
    for (name, text) in files {
        std::fs::write(setup.folder().join(name), text).unwrap();
    }
    setup
}

/// An exit code, standard output and standard error.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

impl Said {
    fn documents(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

fn linkspan(setup: &Setup, arguments: &[&str]) -> Said {
    setup.command(arguments).output().unwrap().into()
}

#[test]
fn run_prints_one_result_document_a_line_in_the_order_of_the_arguments() {
    let setup = setup();
    let said = linkspan(
        &setup,
        &[
            "run",
            "feedback",
            "b-bad.txt",
            "a-*.txt",
            "./b-bad.txt",
            "--output",
            "json",
        ],
    );
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    let documents = said.documents();
    let of = |name: &str| {
        documents
            .iter()
            .map(|document| document[name].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(of("file"), ["b-bad.txt", "a-good.txt", "./b-bad.txt"]);
    assert_eq!(of("status"), ["succeeded"; 3]);
    let labels: Vec<_> = documents
        .iter()
        .map(|document| &document["answers"]["mood"]["label"])
        .collect();
    assert_eq!(labels, ["negative", "positive", "negative"]);
}

#[test]
fn run_does_the_others_when_one_fails_and_ends_with_1() {
    let setup = setup();
    std::fs::write(setup.folder().join("broken.txt"), b"caf\xe9").unwrap();
    let said = linkspan(
        &setup,
        &[
            "run",
            "feedback",
            "missing.txt",
            "c-foreign.txt",
            ".",
            "broken.txt",
            "a-good.txt",
            "--output",
            "json",
        ],
    );
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("4 of 5 files failed"), "{}", said.err);
    let documents = said.documents();
    let codes: Vec<_> = documents
        .iter()
        .map(|document| document["error"]["code"].as_str())
        .collect();
    let expected = [
        "bad-request",
        "unsupported-language",
        "bad-request",
        "unreadable-document",
    ];
    assert_eq!(codes[..4], expected.map(Some), "{documents:?}");
    assert_eq!(documents[4]["answers"]["mood"]["label"], "positive");
    let detail = documents[0]["error"]["detail"].as_str().unwrap();
    assert!(detail.contains("No such file"), "{detail}");
}

#[test]
fn run_prints_a_table_for_people_and_csv_for_spreadsheets() {
    let setup = setup();
    let table = linkspan(&setup, &["run", "feedback", "a-good.txt", "c-foreign.txt"]);
    assert_eq!(table.code, Some(1), "{table:?}");
    for words in [
        "file",
        "confidence",
        "a-good.txt",
        "positive",
        "c-foreign.txt",
        "unsupported-language",
    ] {
        assert!(table.out.contains(words), "{words} in {}", table.out);
    }
    let csv = linkspan(
        &setup,
        &[
            "run",
            "feedback",
            "a-good.txt",
            "b-bad.txt",
            "--output",
            "csv",
        ],
    );
    assert_eq!(csv.code, Some(0), "{csv:?}");
    let mut reader = csv::Reader::from_reader(csv.out.as_bytes());
    assert_eq!(
        reader.headers().unwrap(),
        vec!["file", "status", "answer", "confidence", "ms"]
    );
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!((&rows[0][0], &rows[0][1]), ("a-good.txt", "succeeded"));
    assert!(rows[1][2].starts_with("negative"), "{rows:?}");
}

#[test]
fn run_reads_standard_input() {
    let setup = setup();
    let mut child = setup
        .command(&["run", "feedback", "-", "--output", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"What a wonderful, happy day!")
        .unwrap();
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.documents()[0]["file"], "-");
    assert_eq!(said.documents()[0]["answers"]["mood"]["label"], "positive");
}

#[test]
fn run_gives_parameters_to_the_engines() {
    let setup = setup();
    for (file, password) in [
        ("pdf/encrypted-aes-256.pdf", "harbour-7"),
        ("pdf/encrypted-rc4-128.pdf", "harbour-7"),
    ] {
        let file = fixture(file);
        let file = file.to_str().unwrap();
        let closed = linkspan(&setup, &["run", "reading", file, "--output", "json"]);
        assert_eq!(closed.code, Some(1), "{closed:?}");
        assert_eq!(closed.documents()[0]["error"]["code"], "password-required");
        let wrong = linkspan(
            &setup,
            &[
                "run",
                "reading",
                file,
                "--param",
                "password=wr0ng-word",
                "--output",
                "json",
            ],
        );
        assert_eq!(wrong.documents()[0]["error"]["code"], "password-required");
        assert!(!format!("{wrong:?}").contains("wr0ng-word"), "{wrong:?}");
        std::fs::write(setup.folder().join("password"), format!("{password}\n")).unwrap();
        for param in [
            format!("password={password}"),
            "password=@password".to_owned(),
        ] {
            let open = linkspan(
                &setup,
                &[
                    "run", "reading", file, "--param", &param, "--output", "json",
                ],
            );
            assert_eq!(open.code, Some(0), "{open:?}");
            assert_ne!(open.documents()[0]["answers"]["text"]["text"], "");
        }
    }
}

#[test]
fn run_names_a_parameter_that_no_step_takes() {
    let setup = setup();
    let said = linkspan(
        &setup,
        &[
            "run",
            "feedback",
            "a-good.txt",
            "--param",
            "pasword=x",
            "--output",
            "json",
        ],
    );
    assert_eq!(said.code, Some(1));
    assert_eq!(said.documents()[0]["error"]["code"], "invalid-parameter");
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_right() {
    let setup = setup();
    let cases: [(&[&str], &str); 21] = [
        (&[], "Usage"),
        (&["serv"], "serve"),
        (&["run"], "INTEGRATION"),
        (&["run", "feedback"], "FILE"),
        (&["run", "feedbak", "a-good.txt"], "feedback"),
        (&["run", "feedback", "*.pdf"], "*.pdf"),
        (
            &["run", "feedback", "a-good.txt", "--output", "xml"],
            "json",
        ),
        (
            &["run", "feedback", "a-good.txt", "--param", "password"],
            "NAME=VALUE",
        ),
        (
            &["run", "feedback", "a-good.txt", "--claim", "Ada"],
            "--claim",
        ),
        (
            &["run", "feedback", "a-good.txt", "--claim", "@nothing.json"],
            "nothing.json",
        ),
        (&["-c", "nothing.toml", "check"], "linkspan init"),
        (&["keys", "add", "crm"], "--scope"),
        (
            &["keys", "add", "crm", "--scope", "write"],
            "invoke, read and admin",
        ),
        (
            &["keys", "add", "two words", "--scope", "read"],
            "two words",
        ),
        (&["run", "feedback", "-", "-"], "name it once"),
        (&["run", "feedback", "a-good.txt", "-j", "0"], "--jobs"),
        (
            &["keys", "add", "crm", "--scope", "read", "--expires", "90"],
            "--expires 90: has no unit: write 90d",
        ),
        (
            &["keys", "add", "crm", "--scope", "read", "--expires", "0d"],
            "--expires 0d: the key would have ended already",
        ),
        (&["serve", "--listen", "localhost"], "127.0.0.1:8080"),
        (&["keys", "revoke", "nobody"], "nobody"),
        (&["keys", "rotate", "nobody"], "keys add"),
    ];
    for (arguments, words) in cases {
        let said = linkspan(&setup, arguments);
        assert_eq!(said.code, Some(2), "{arguments:?}: {said:?}");
        assert!(
            said.err.contains(words),
            "{arguments:?} does not say {words:?}: {}",
            said.err
        );
        assert_eq!(said.out, "", "{arguments:?}");
    }
}

#[test]
fn an_error_is_never_cut_since_its_end_says_what_to_do() {
    let setup = setup();
    let said = linkspan(
        &setup,
        &[
            "run",
            "feedback",
            "a-good.txt",
            "--param",
            "pasword=x",
            "--output",
            "csv",
        ],
    );
    assert_eq!(said.code, Some(1), "{said:?}");
    let answer = csv::Reader::from_reader(said.out.as_bytes())
        .records()
        .next()
        .unwrap()
        .unwrap()[2]
        .to_owned();
    let whole = linkspan(
        &setup,
        &[
            "run",
            "feedback",
            "a-good.txt",
            "--param",
            "pasword=x",
            "--output",
            "json",
        ],
    )
    .documents();
    let detail = whole[0]["error"]["detail"].as_str().unwrap();
    assert_eq!(answer, format!("invalid-parameter: {detail}"));
}

#[test]
fn every_verb_has_help_with_an_example() {
    let setup = setup();
    for verb in [
        "serve",
        "run",
        "check",
        "init",
        "doctor",
        "keys",
        "demo",
        "completions",
    ] {
        let said = linkspan(&setup, &[verb, "--help"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.out.contains("Example"), "{verb}: {}", said.out);
    }
}

#[test]
fn check_tells_every_fault_at_once_with_its_line() {
    let setup = setup();
    assert_eq!(linkspan(&setup, &["check"]).code, Some(0));
    let wrong = "[server]\nlistn = \"127.0.0.1:0\"\nmax_body = \"many\"\n[service.mood]\ntask = \"sentimnt\"\n\
        [integration.feedback]\npattern = \"sync\"\nsteps = [\"mod\"]\n";
    setup.configure(wrong);
    let said = linkspan(&setup, &["check"]);
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{said:?}");
    for words in ["listn", "listen", "max_body", "sentimnt", "mod"] {
        assert!(said.err.contains(words), "{words} in {}", said.err);
    }
    for line in [2, 3, 5, 8] {
        assert!(
            said.err.contains(&format!("linkspan.toml:{line}")),
            "line {line} in {}",
            said.err
        );
    }
    let pointing = "[server]\ntls = { cert = \"cert.pem\", key = \"key.pem\" }\n[store]\njobs = \"sqlite:a-good.txt/jobs.db\"\n\
        [service.text]\ntask = \"extract-text\"\noptions = { langages = [\"eng\"] }\n\
        [integration.reading]\npattern = \"sync\"\nsteps = [\"text\"]\n";
    setup.configure(pointing);
    let said = linkspan(&setup, &["check"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    for words in ["cert.pem", "a-good.txt", "langages"] {
        assert!(said.err.contains(words), "{words} in {}", said.err);
    }
    let hasty = "[store]\nretention = \"1h\"\nrow_retention = \"1d\"\nidempotency_ttl = \"1h\"\n\
        [service.mood]\ntask = \"sentiment\"\n[integration.feedback]\npattern = \"async\"\nsteps = [\"mood\"]\n\
        [[integration.feedback.deliver]]\nfile = \"out.jsonl\"\n";
    for (file, warned) in [
        (format!("{hasty}retry = [\"20h\"]\n"), false),
        (format!("{hasty}retry = [\"20h\", \"50m\", \"1h\"]\n"), true),
    ] {
        setup.configure(&file);
        let said = linkspan(&setup, &["check"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(said.err.contains("linkspan.toml:12: "), warned, "{said:?}");
    }
}

#[test]
fn init_writes_a_file_that_check_accepts_and_never_over_another() {
    let setup = setup();
    std::fs::remove_file(setup.folder().join("linkspan.toml")).unwrap();
    let said = linkspan(&setup, &["init"]);
    assert_eq!((said.code, said.out.as_str()), (Some(0), ""), "{said:?}");
    let written = std::fs::read_to_string(setup.folder().join("linkspan.toml")).unwrap();
    let checked = linkspan(&setup, &["check"]);
    assert_eq!(
        (checked.code, checked.err.as_str()),
        (Some(0), ""),
        "{checked:?}"
    );
    let again = linkspan(&setup, &["init"]);
    assert_eq!(again.code, Some(2), "{again:?}");
    assert!(again.err.contains("--force"), "{}", again.err);
    assert_eq!(linkspan(&setup, &["init", "--force"]).code, Some(0));
    assert_eq!(linkspan(&setup, &["init", "-"]).out, written);
    drop(setup.serve());
}

#[test]
fn doctor_says_what_is_there_a_line_each() {
    let setup = setup();
    let said = linkspan(&setup, &["doctor", "--output", "json"]);
    assert!(matches!(said.code, Some(0 | 1)), "{said:?}");
    let findings = said.documents();
    for what in [
        "linkspan",
        "engine extract-text",
        "engine sentiment",
        "library tesseract",
        "worker protection",
    ] {
        let found = findings
            .iter()
            .find(|finding| finding["what"].as_str().unwrap().starts_with(what));
        let finding = found.unwrap_or_else(|| panic!("nothing is said of {what}"));
        assert!(["ok", "partial", "missing"].contains(&finding["state"].as_str().unwrap()));
        assert_ne!(finding["detail"], "");
    }
    let needed_missing = findings.iter().any(|finding| {
        finding["state"] == "missing"
            && !finding["what"]
                .as_str()
                .unwrap()
                .starts_with("worker protection")
    });
    assert_eq!(said.code, Some(i32::from(needed_missing)));
}

#[test]
fn completions_know_the_verbs() {
    let setup = setup();
    for shell in ["bash", "zsh", "fish"] {
        let said = linkspan(&setup, &["completions", shell]);
        assert_eq!(said.code, Some(0), "{said:?}");
        for verb in ["serve", "run", "doctor", "keys"] {
            assert!(said.out.contains(verb), "{shell}: {verb}");
        }
    }
}

#[test]
fn a_key_is_printed_once_alone_and_listed_without_its_secret() {
    let setup = setup();
    let added = linkspan(
        &setup,
        &[
            "keys",
            "add",
            "crm",
            "--scope",
            "invoke:feedback",
            "--scope",
            "read",
            "--expires",
            "90d",
        ],
    );
    assert_eq!(added.code, Some(0), "{added:?}");
    assert_eq!(added.out.lines().count(), 1, "the key alone");
    let (id, secret) = added
        .out
        .trim()
        .strip_prefix("lsk_")
        .unwrap()
        .split_once('_')
        .unwrap();
    assert!(!added.err.contains(secret), "{}", added.err);
    for output in ["json", "table", "csv"] {
        let listed = linkspan(&setup, &["keys", "list", "--output", output]);
        assert_eq!(listed.code, Some(0), "{listed:?}");
        assert!(
            listed.out.contains(id) && listed.out.contains("crm"),
            "{}",
            listed.out
        );
        assert!(!listed.out.contains(secret));
    }
    let key = &linkspan(&setup, &["keys", "list", "--output", "json"]).documents()[0];
    assert_eq!(
        key["scopes"],
        serde_json::json!(["invoke:feedback", "read"])
    );
    assert_eq!(key["state"], "valid");
    assert_ne!(key["expires"], Value::Null);
    let warned = linkspan(&setup, &["keys", "add", "crm", "--scope", "read:feedbak"]);
    assert_eq!(warned.code, Some(0));
    assert!(warned.err.contains("feedbak"), "{}", warned.err);
}

/// Begins a request whose body the gateway waits for.
async fn begin(gateway: &Gateway, body: &str) -> TcpStream {
    let address = gateway.url.strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v1/integrations/feedback/invocations HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n\
         content-type: text/plain\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    connection.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_drains_what_is_running_is_answered_and_the_exit_code_is_0() {
    const BODY: &str = "What a wonderful, happy day!";
    for signal in ["INT", "TERM"] {
        let setup = setup();
        let gateway = setup.serve();
        let mut connection = begin(&gateway, BODY).await;
        gateway.signal(signal);
        crate::scripted::until(|| gateway.log().contains("stopping")).await;
        let address = gateway.url.strip_prefix("http://").unwrap().to_owned();
        crate::scripted::until(|| std::net::TcpStream::connect(&address).is_err()).await;
        connection.write_all(BODY.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("\"positive\""), "{answer}");
        assert_eq!(gateway.wait(), Some(0), "{signal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_in_the_drain_time_is_cut_off() {
    let setup = setup();
    setup.configure(&TOML.replace("[server]", "[server]\ndrain_timeout = \"100ms\""));
    let gateway = setup.serve();
    let _held = begin(&gateway, "never sent").await;
    assert_eq!(gateway.stop(), Some(0));
}
