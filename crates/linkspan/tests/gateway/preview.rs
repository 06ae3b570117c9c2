//! Pictures of documents' pages, for people.

use linkspan_testkit::{Answer, Client, Setup, fixture};
use reqwest::Method;

const TOML: &str = r#"
[service.text]
task = "extract-text"
[integration.letters]
pattern = "async"
steps = ["text"]
"#;

async fn picture(client: &Client, query: &str, file: &str) -> reqwest::Response {
    let body = std::fs::read(fixture(file)).unwrap();
    client
        .request(Method::POST, &format!("/console/preview{query}"))
        .body(body)
        .send()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_document_and_of_a_jobs_document_is_shown() {
    let setup = Setup::new(env!("CARGO_BIN_EXE_linkspan"), TOML);
    let key = setup.key("test", &["invoke", "read"]);
    let other = setup.key("other", &["invoke", "read"]);
    let gateway = setup.serve();
    let client = gateway.client(&key);

    let shown = picture(&client, "?page=2", "pdf/contract-and-scanned-annex.pdf").await;
    assert_eq!(shown.status(), 200);
    let header = |name: &str| shown.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "image/png");
    assert_eq!(header("linkspan-pages"), "2");
    let width: f64 = header("linkspan-page-width").parse().unwrap();
    assert!((500.0..700.0).contains(&width), "{width} points");
    let png = shown.bytes().await.unwrap();
    assert!(png.starts_with(b"\x89PNG\r\n"));

    let document = std::fs::read(fixture("bills/bill-scan.pdf")).unwrap();
    let request = client.invocation("letters").body(document);
    let job = Answer::of(request).await.job();
    let path = format!("/v1/jobs/{job}/preview");
    let own = client.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(own.status(), 200);
    let size: usize = own.bytes().await.unwrap().len();
    assert!(size > 1000);
    assert_eq!(gateway.client(&other).get(&path).await.code(), "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_document_is_shown_to_who_knows_its_password() {
    let setup = Setup::new(env!("CARGO_BIN_EXE_linkspan"), TOML);
    let key = setup.key("test", &["invoke", "read"]);
    let gateway = setup.serve();
    let client = gateway.client(&key);
    let document = std::fs::read(fixture("pdf/encrypted-aes-256.pdf")).unwrap();
    let form = reqwest::multipart::Form::new()
        .part(
            "document",
            reqwest::multipart::Part::bytes(document.clone()),
        )
        .text("params", r#"{"password": "harbour-7"}"#);
    let request = client.invocation("letters").multipart(form);
    let job = Answer::of(request).await.job();
    let own = format!("/v1/jobs/{job}/preview");
    for (password, said) in [
        (None, Err("password-required")),
        (Some("d3Jvbmc="), Err("password-required")),
        (Some("harbour-7"), Err("bad-request")),
        (Some("aGFyYm91ci03"), Ok(())),
    ] {
        for request in [
            client
                .request(Method::POST, "/console/preview")
                .body(document.clone()),
            client.request(Method::GET, &own),
        ] {
            let request = match password {
                Some(password) => request.header("linkspan-document-password", password),
                None => request,
            };
            let answer = request.send().await.unwrap();
            match said {
                Ok(()) => assert_eq!(answer.headers()["content-type"], "image/png"),
                Err(code) => {
                    let problem: serde_json::Value = answer.json().await.unwrap();
                    assert_eq!(problem["code"], code, "{password:?}: {problem}");
                }
            }
        }
    }
    assert!(!gateway.log().contains("harbour-7") && !gateway.log().contains("aGFyYm91ci03"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_picture_is_refused_and_needs_the_same_key() {
    let setup = Setup::new(env!("CARGO_BIN_EXE_linkspan"), TOML);
    let reader = setup.key("reader", &["read"]);
    let key = setup.key("test", &["invoke"]);
    let gateway = setup.serve();
    let client = gateway.client(&key);
    for (query, file, status) in [
        ("", "truth.json", 415),
        ("?page=9", "bills/bill-scan.pdf", 400),
        ("?page=x", "bills/bill-scan.pdf", 400),
        ("?side=1", "bills/bill-scan.pdf", 400),
        ("", "bombs/60000-by-60000.png", 422),
    ] {
        let answer = picture(&client, query, file).await;
        assert_eq!(answer.status(), status, "{file}{query}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    let lacking = picture(&gateway.client(&reader), "", "bills/bill-scan.pdf").await;
    assert_eq!(lacking.status(), 403);
    let nobody = picture(&gateway.client("lsk_x_y"), "", "bills/bill-scan.pdf").await;
    assert_eq!(nobody.status(), 401);
}
