//! `linkspan migrate` and `linkspan store copy`, from the command line to a gateway on the new store.

use std::process::Output;

use linkspan_testkit::{Answer, PostgresServer, S3Server, Setup};

const PROGRAM: &str = env!("CARGO_BIN_EXE_linkspan");

const INTEGRATIONS: &str = "[service.language]\ntask = \"detect-language\"\n\
    [integration.letters]\npattern = \"async\"\nsteps = [\"language\"]\n";

fn told(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

fn run(setup: &Setup, arguments: &[&str]) -> Output {
    setup.command(arguments).output().expect("the program runs")
}

#[test]
fn migrate_says_from_which_version_to_which() {
    let setup = Setup::new(PROGRAM, INTEGRATIONS);
    let first = run(&setup, &["migrate"]);
    let line = String::from_utf8_lossy(&first.stdout).into_owned();
    assert!(
        first.status.success()
            && line.starts_with("sqlite:data/linkspan.db: migrated from version 0 to "),
        "{line}"
    );
    let again = told(&run(&setup, &["migrate"]));
    assert!(again.contains("already"), "{again}");
}

#[test]
fn a_copy_shows_no_password_and_says_what_is_wrong() {
    let setup = Setup::new(PROGRAM, INTEGRATIONS).env(
        "DATABASE_URL",
        "postgres://linkspan:sesame@127.0.0.1:1/linkspan",
    );
    assert!(run(&setup, &["migrate"]).status.success());
    for (from, to, code, expected) in [
        (
            "sqlite:data/linkspan.db",
            "postgres://linkspan:sesame@",
            2,
            "names no host",
        ),
        (
            "sqlite:data/linkspan.db",
            "${env:NOTHING_THERE}",
            2,
            "NOTHING_THERE is not set",
        ),
        (
            "sqlite:nothing.db",
            "${env:DATABASE_URL}",
            2,
            "there is no file",
        ),
        (
            "sqlite:data/linkspan.db",
            "${env:DATABASE_URL}",
            1,
            "does not answer",
        ),
        (
            "sqlite:data/linkspan.db",
            "sqlite:other.db",
            2,
            "from SQLite to PostgreSQL",
        ),
    ] {
        let output = run(&setup, &["store", "copy", "--from", from, "--to", to]);
        let told = told(&output);
        assert_eq!(output.status.code(), Some(code), "{from} {to}: {told}");
        assert!(
            told.contains(expected) && !told.contains("sesame"),
            "{told}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_moves_to_a_database_and_a_bucket_with_its_jobs_documents_and_keys() {
    let server = S3Server::start("documents");
    let url = PostgresServer::shared().database();
    let setup = Setup::new(PROGRAM, INTEGRATIONS)
        .env("S3_KEY_ID", S3Server::ACCESS_KEY_ID)
        .env("S3_SECRET", S3Server::SECRET_ACCESS_KEY)
        .env("DATABASE_URL", &url);
    let key = setup.key("estate", &["invoke", "read", "admin"]);
    let old = setup.serve();
    let client = old.client(&key);
    let letter = "The ferry left at eight and arrived at noon. ".repeat(2000);
    let mut jobs = Vec::new();
    for number in 0..5 {
        let text = format!("{letter}{number}");
        let request = client.invocation("letters").body(text);
        let job = Answer::of(request.header("content-type", "text/plain"))
            .await
            .job();
        let result = client.result(&job).await;
        assert_eq!(result.status, 200, "{}", result.body);
        jobs.push((job, result.body));
    }
    let toml = format!(
        "{INTEGRATIONS}[store]\njobs = \"${{env:DATABASE_URL}}\"\nblobs = \"s3://documents/team\"\n{}",
        server.toml()
    );
    std::fs::write(setup.folder().join("new.toml"), &toml).expect("the file is written");
    let copy = [
        "-c",
        "new.toml",
        "store",
        "copy",
        "--from",
        "sqlite:data/linkspan.db",
        "--to",
        "${env:DATABASE_URL}",
        "--blobs-from",
        "file:data/blobs",
        "--blobs-to",
        "s3://documents/team",
    ];
    let first = run(&setup, &copy); // beside the gateway
    assert_eq!(first.status.code(), Some(0), "{}", told(&first));
    assert!(
        told(&first).contains("copied 5 jobs and 5 documents"),
        "{}",
        told(&first)
    );
    let last = client.text("letters", "A fine day at sea.").await.job();
    let body = client.result(&last).await.body;
    jobs.push((last, body));
    assert_eq!(old.stop(), Some(0));
    let second = run(&setup, &copy);
    assert_eq!(second.status.code(), Some(0), "{}", told(&second));
    assert!(
        told(&second).contains("the counts agree"),
        "{}",
        told(&second)
    );
    // The new gateway has nothing of the old one's but its hash key. Without it none starts, and none is made.
    setup.configure(&toml);
    let hash_key = setup.folder().join("linkspan.key");
    for verb in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["keys", "add", "new", "--scope", "read"],
    ] {
        let keyless = run(&setup, verb);
        assert_eq!(keyless.status.code(), Some(1), "{verb:?}");
        assert!(told(&keyless).contains("linkspan.key"), "{verb:?}");
        assert!(!hash_key.exists(), "{verb:?}");
    }
    std::fs::copy(setup.folder().join("data/linkspan.key"), &hash_key).expect("it is copied");
    std::fs::rename(setup.folder().join("data"), setup.folder().join("gone")).expect("moved away");
    let new = setup.serve();
    let client = new.client(&key);
    for (job, body) in &jobs {
        let result = client.result(job).await;
        assert_eq!((result.status, &result.body), (200, body));
    }
    let another = client
        .text("letters", "Another fine day at sea.")
        .await
        .job();
    assert_eq!(client.result(&another).await.status, 200);
    assert!(!setup.folder().join("data/linkspan.db").exists());
    // A copy too many would undo what the new gateway did.
    let from = copy
        .iter()
        .position(|word| *word == "sqlite:data/linkspan.db");
    let mut late = copy;
    late[from.expect("it is named")] = "sqlite:gone/linkspan.db";
    let late = run(&setup, &late);
    assert_eq!(late.status.code(), Some(1), "{}", told(&late));
    assert!(
        told(&late).contains("a gateway has worked"),
        "{}",
        told(&late)
    );
    assert_eq!(new.stop(), Some(0));
}
