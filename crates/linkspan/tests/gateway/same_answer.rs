//! The same integration answers the same document by `sync`, by `async` and by `linkspan run` with the same result document.

use linkspan_testkit::{Answer, Setup, fixture};
use serde_json::Value;

const TOML: &str = r#"
[service.text]
task = "extract-text"
[service.language]
task = "detect-language"
[service.identity]
task = "proof-of-identity"
[integration.letters]
pattern = "sync"
steps = ["text", "language"]
[integration.onboarding]
pattern = "sync"
steps = ["identity"]
"#;

/// A result document without what differs from run to run: its id and its timings.
fn essence(mut result: Value) -> Value {
    let members = result.as_object_mut().expect("an object");
    members.remove("id");
    members.remove("file");
    for step in result["steps"].as_array_mut().expect("steps") {
        step.as_object_mut().expect("a step").remove("took_ms");
    }
    result
}

#[tokio::test(flavor = "multi_thread")]
async fn one_document_has_one_answer_whatever_the_way() {
    let setup = Setup::new(env!("CARGO_BIN_EXE_linkspan"), TOML);
    let key = setup.key("test", &["invoke", "read"]);
    let gateway = setup.serve();
    let client = gateway.client(&key);
    let documents = [
        ("letters", "bills/bill-scan.jpg", "image/jpeg"),
        (
            "letters",
            "office/report.docx",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        ),
        (
            "letters",
            "pdf/contract-and-scanned-annex.pdf",
            "application/pdf",
        ),
        ("onboarding", "identity/passport.png", "image/png"),
    ];
    for (integration, file, media_type) in documents {
        let bytes = std::fs::read(fixture(file)).expect("the fixture is there");
        let post = || {
            client
                .invocation(integration)
                .header("content-type", media_type)
                .body(bytes.clone())
        };
        let by_sync = Answer::of(post()).await;
        assert_eq!(by_sync.status, 200, "{file}: {}", by_sync.body);
        let job = Answer::of(post().header("prefer", "respond-async"))
            .await
            .job();
        let by_async = client.result(&job).await;
        assert_eq!(by_async.status, 200, "{file}: {}", by_async.body);
        let path = fixture(file);
        let run = setup
            .command(&[
                "run",
                integration,
                "--output",
                "json",
                path.to_str().expect("a path"),
            ])
            .output()
            .expect("the program runs");
        assert!(
            run.status.success(),
            "{file}: {}",
            String::from_utf8_lossy(&run.stderr)
        );
        let by_run: Value = serde_json::from_slice(&run.stdout).expect("a result document");
        let essence_of_sync = essence(by_sync.json());
        assert_eq!(essence(by_async.json()), essence_of_sync, "{file}");
        assert_eq!(essence(by_run), essence_of_sync, "{file}");
    }
    assert_eq!(gateway.stop(), Some(0));
}
