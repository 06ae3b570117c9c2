//! Results that leave a whole gateway by email and as files.

use linkspan_testkit::smtp::{Mail, SmtpServer, SmtpSetup};
use mail_parser::MessageParser;
use reqwest::Method;
use serde_json::Value;

use crate::scripted::{Scene, until};

/// The integration `calls` with these channels, and a mail server at a port.
fn calls(port: u16, channels: &str) -> String {
    format!(
        "[outbound]\nprivate_networks = [\"127.0.0.0/8\"]\n\
         [email]\nserver = \"localhost:{port}\"\ntls = \"none\"\nfrom = \"bridge@sender.example\"\nallowed_domains = [\"example.com\"]\n\
         [integration.calls]\npattern = \"async\"\nsteps = [\"mood\"]\ndeliver = [{channels}]\n"
    )
}

fn text(mail: &Mail) -> String {
    let message = MessageParser::default()
        .parse(mail.content.as_bytes())
        .unwrap();
    message.body_text(0).unwrap().into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_lies_in_the_mailbox_and_in_the_file_and_its_link_opens_it() {
    let server = SmtpSetup::plain().start();
    let channels = r#"{ email = "ann@example.com" }, { file = "out/results.jsonl", name = "lines" }, { file = "out/each", name = "each", format = "file-per-result" }"#;
    let scene = Scene::start(&calls(server.port, channels)).await;
    scene.engine.open();
    let job = scene.client.text("calls", "fine").await.job();
    let result = scene.client.result(&job).await.json();
    until(|| !server.mails().is_empty()).await;
    let text = text(&server.mails()[0]);
    let link = text.lines().find(|line| line.starts_with("http")).unwrap();
    let (_, path) = link.split_once("/v1/").unwrap();
    let opened = scene.client.request(Method::GET, &format!("/v1/{path}"));
    let opened = linkspan_testkit::Answer::of(opened).await;
    assert_eq!((opened.status, opened.json()), (200, result.clone()));
    let lines = scene.folder.path().join("out/results.jsonl");
    until(|| std::fs::read_to_string(&lines).is_ok_and(|text| text.ends_with('\n'))).await;
    let line: Value = serde_json::from_str(&std::fs::read_to_string(&lines).unwrap()).unwrap();
    assert_eq!(line, result);
    let each = scene.folder.path().join("out/each");
    until(|| {
        std::fs::read_dir(&each).is_ok_and(|files| {
            let json =
                |file: &std::fs::DirEntry| file.path().extension().is_some_and(|it| it == "json");
            files.flatten().filter(json).count() == 1
        })
    })
    .await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_was_down_gets_every_mail_once_it_is_up() {
    let server = SmtpSetup::plain().start();
    let port = server.port;
    drop(server);
    let channel = r#"{ email = "ann@example.com", retry = ["20ms", "20ms", "20ms", "20ms", "20ms", "20ms", "20ms", "20ms", "20ms", "1s", "1s", "1s"] }"#;
    let scene = Scene::start(&calls(port, channel)).await;
    scene.engine.open();
    for nth in 0..3 {
        scene.client.text("calls", &format!("text {nth}")).await;
    }
    let refused =
        "linkspan_deliveries_total{integration=\"calls\",channel=\"email\",outcome=\"retried\"}";
    while !scene.client.get("/metrics").await.body.contains(refused) {
        tokio::task::yield_now().await;
    }
    let server: SmtpServer = SmtpSetup::plain().port(port).start();
    until(|| server.mails().len() == 3).await;
    let mut ids: Vec<String> = server
        .mails()
        .iter()
        .map(|mail| {
            let message = MessageParser::default()
                .parse(mail.content.as_bytes())
                .unwrap();
            message.message_id().unwrap().to_owned()
        })
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    scene.stop().await;
}
