//! Messages as a real mail server takes them, read back by a mail parser.

use std::path::{Path, PathBuf};

use linkspan_model::InvocationId;
use linkspan_model::config::{Config, Reference};
use linkspan_testkit::smtp::{Mail, SmtpServer, SmtpSetup};
use mail_parser::{Message, MessageParser, MimeHeaders as _};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::channels::VerdictKind;
use crate::keys::HashKey;
use crate::outbound::testing::settings;
use crate::store::Endpoint;

const RETRY: VerdictKind = VerdictKind::Retry { after: None };
const PASSWORD: &str = "correct horse battery";

/// A folder with an authority's certificate, and a server certificate that it signed.
struct Certificates(TempDir);

impl Certificates {
    fn new(host: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // A name of its own: two authorities of one name would differ by their keys only.
        let name = folder.path().display().to_string();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let cert = params.signed_by(&key, &authority).unwrap();
        for (name, pem) in [
            ("ca.pem", authority.pem()),
            ("cert.pem", cert.pem()),
            ("key.pem", key.serialize_pem()),
        ] {
            std::fs::write(folder.path().join(name), pem).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn starttls(&self) -> SmtpSetup {
        SmtpSetup::starttls(&self.path("cert.pem"), &self.path("key.pem"))
    }
}

/// What a channel is opened with.
struct Setting<'a> {
    port: u16,
    channel: &'a str,
    smtp: &'a str,
    allowed: &'a str,
    ca: Option<&'a Path>,
    folder: &'a Path,
    network: &'a str,
}

impl Default for Setting<'_> {
    fn default() -> Self {
        Self {
            port: 1,
            channel: r#"email = "Ann Lee <ann.lee@example.com>""#,
            smtp: r#"tls = "none""#,
            allowed: "example.com",
            ca: None,
            folder: Path::new("."),
            network: "127.0.0.0/8",
        }
    }
}

impl Setting<'_> {
    fn open(&self) -> Result<Email, Vec<String>> {
        let toml = format!(
            "[email]\nserver = \"localhost:{}\"\nfrom = \"linkspan <bridge@sender.example>\"\nallowed_domains = [\"{}\"]\n{}\n\
             [service.s]\ntask = \"sentiment\"\n[integration.i]\npattern = \"async\"\nsteps = [\"s\"]\ndeliver = [{{ {} }}]\n",
            self.port, self.allowed, self.smtp, self.channel
        );
        let secret = |_: Reference<'_>| Ok(PASSWORD.to_owned());
        let config =
            Config::parse(&toml, "test.toml", &secret).unwrap_or_else(|faults| panic!("{faults}"));
        let item = &config.integrations.values().next().unwrap().deliver[0];
        let deliver::Channel::Email(email) = &item.channel else {
            panic!("not an email");
        };
        let mut outbound = settings(&[self.network]);
        outbound.ca = self.ca.map(Path::to_owned);
        let outbound = Outbound::new(&outbound, self.folder).unwrap();
        let key = HashKey::throwaway().unwrap();
        let links = Links::new("https://gateway.example", &key);
        Email::open(email, config.email.as_ref(), self.folder, outbound, links)
    }
}

fn result(text: &str) -> Parcel {
    let job = InvocationId::new();
    let result = json!({
        "id": job.to_string(), "integration": "reviews", "status": "succeeded",
        "answers": {"read": {"text": text, "pages": [{"number": 1, "text": text, "confidence": 0.93, "source": "ocr"}], "media_type": "image/png"}},
        "steps": [{"service": "read", "task": "extract-text", "engine": "builtin/tesseract 5.3.0", "took_ms": 412.0}],
    });
    Parcel {
        id: DeliveryId::new(),
        job,
        endpoint: Endpoint::new("reviews", "email"),
        attempt: 1,
        created: "2026-03-01T10:10:00Z".parse().unwrap(),
        content: result.clone(),
        mapped: false,
        kept_until: None,
        result,
        traceparent: None,
    }
}

fn failed() -> Parcel {
    let mut parcel = result("");
    parcel.result = json!({
        "id": parcel.job.to_string(), "integration": "reviews", "status": "failed", "steps": [],
        "error": {"type": "/problems/unreadable-document", "title": "The document cannot be read", "status": 422,
            "detail": "page 1 is no picture", "code": "unreadable-document", "retryable": false},
    });
    parcel.content = parcel.result.clone();
    parcel
}

fn parse(mail: &Mail) -> Message<'_> {
    MessageParser::default()
        .parse(mail.content.as_bytes())
        .unwrap()
}

fn html(mail: &Mail) -> String {
    parse(mail).body_html(0).unwrap().into_owned()
}

fn text(mail: &Mail) -> String {
    parse(mail).body_text(0).unwrap().into_owned()
}

/// Sends one parcel to a plain server and gives the mail.
async fn one(channel: &str, parcel: &Parcel) -> Mail {
    let server = SmtpSetup::plain().start();
    let email = Setting {
        port: server.port,
        channel,
        ..Setting::default()
    }
    .open()
    .unwrap();
    let verdicts = email.send(std::slice::from_ref(parcel)).await;
    assert_eq!(verdicts[0].kind, VerdictKind::Delivered, "{verdicts:?}");
    server.wait_for(1).remove(0)
}

#[tokio::test]
async fn a_result_arrives_over_tls_signed_in_with_text_html_and_link() {
    let certificates = Certificates::new("localhost");
    let ca = certificates.path("ca.pem");
    let implicit = SmtpSetup::implicit(
        &certificates.path("cert.pem"),
        &certificates.path("key.pem"),
    );
    for (setup, tls) in [
        (certificates.starttls(), "starttls"),
        (implicit, "implicit"),
    ] {
        let server = setup.user("linkspan", PASSWORD).start();
        let smtp =
            format!("tls = \"{tls}\"\nusername = \"linkspan\"\npassword = \"${{env:SMTP}}\"");
        let email = Setting {
            port: server.port,
            smtp: &smtp,
            ca: Some(&ca),
            ..Setting::default()
        }
        .open()
        .unwrap();
        let parcel = result("All is well.");
        let verdicts = email.send(std::slice::from_ref(&parcel)).await;
        assert_eq!(
            verdicts,
            [Verdict::delivered(
                Some(250),
                "localhost answered 250: 2.0.0 Ok: queued as TEST0001"
            )],
            "{tls}"
        );
        let mail = server.wait_for(1).remove(0);
        assert!(mail.encrypted, "{tls}");
        assert_eq!(mail.user.as_deref(), Some("linkspan"));
        assert_eq!(
            (mail.from.as_str(), &mail.to[..]),
            (
                "bridge@sender.example",
                &["ann.lee@example.com".to_owned()][..]
            )
        );
        let message = parse(&mail);
        assert_eq!(message.subject(), Some("reviews: succeeded"));
        assert_eq!(
            message.message_id(),
            Some(format!("{}@sender.example", parcel.id).as_str())
        );
        assert_eq!(
            message.header_raw("Auto-Submitted").map(str::trim),
            Some("auto-generated")
        );
        assert_eq!(
            message.from().unwrap().first().unwrap().address(),
            Some("bridge@sender.example")
        );
        assert_eq!(
            message.to().unwrap().first().unwrap().name(),
            Some("Ann Lee")
        );
        let age = Timestamp::now().as_second() - message.date().unwrap().to_timestamp();
        assert!((0..120).contains(&age), "{age}");
        assert!(mail.content.contains("multipart/alternative"));
        for body in [text(&mail), html(&mail).replace("&#x2f;", "/")] {
            assert!(
                body.contains("All is well.") && body.contains("93"),
                "{body}"
            );
            assert!(
                body.contains(&format!(
                    "https://gateway.example/v1/jobs/{}/result?expires=",
                    parcel.job
                )),
                "{body}"
            );
        }
        let page = html(&mail);
        assert!(
            !page.contains("src=") && !page.contains("@import") && !page.contains("url("),
            "remote content"
        );
    }
}

#[tokio::test]
async fn what_a_document_says_is_shown_and_does_no_harm() {
    let hostile = "<script>alert(1)</script> \u{202e}fdp.exe\u{7} \" onclick=x & <img src=http://evil.test/a.png>";
    let mail = one(r#"email = "ann.lee@example.com""#, &result(hostile)).await;
    let (text, html) = (text(&mail), html(&mail));
    assert!(html.contains("&lt;script&gt;alert(1)"), "{html}");
    assert!(
        !html.contains("<script") && !html.contains("<img"),
        "{html}"
    );
    assert!(text.contains("<script>alert(1)"), "{text}");
    for body in [text, html] {
        assert!(
            !body.contains('\u{202e}') && !body.contains('\u{7}'),
            "{body}"
        );
        assert!(body.contains("\u{fffd}fdp.exe"), "{body}");
    }
}

#[tokio::test]
async fn a_failed_job_says_why() {
    let mail = one(r#"email = "ann.lee@example.com""#, &failed()).await;
    assert_eq!(parse(&mail).subject(), Some("reviews: failed"));
    for body in [text(&mail), html(&mail)] {
        assert!(
            body.contains("The document cannot be read") && body.contains("page 1 is no picture"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn no_value_adds_a_header() {
    let mut parcel = result("x");
    parcel.result["evil"] = json!("a\r\nBcc: eve@evil.test\r\n\r\nbody\u{202e}\u{0}");
    let channel = r#"email = "ann.lee@example.com", subject = "S: {{ result.evil }} für {{ result.status }}""#;
    let mail = one(channel, &parcel).await;
    let message = parse(&mail);
    assert_eq!(
        message.subject(),
        Some("S: a Bcc: eve@evil.test body\u{fffd}\u{fffd} für succeeded")
    );
    assert!(message.bcc().is_none());
    assert_eq!(mail.to, ["ann.lee@example.com"]);
}

#[tokio::test]
async fn an_attachment_is_the_content_and_one_that_is_too_large_comes_as_a_link() {
    let channel = r#"email = "ann.lee@example.com", content = "attachment""#;
    let small = result(&"ä long line ".repeat(2000));
    let mail = one(channel, &small).await;
    let message = parse(&mail);
    let attached = message.attachment(0).unwrap();
    assert_eq!(
        attached.attachment_name(),
        Some(format!("result-{}.json", small.job).as_str())
    );
    assert_eq!(
        serde_json::from_slice::<Value>(attached.contents()).unwrap(),
        small.content
    );
    assert!(!text(&mail).contains("https://"));

    let large = result(&"x".repeat(6 * 1024 * 1024));
    let mail = one(channel, &large).await;
    assert_eq!(parse(&mail).attachment_count(), 0);
    assert!(text(&mail).contains("https://gateway.example/v1/jobs/"));
}

#[tokio::test]
async fn the_message_id_stays_at_each_attempt() {
    let server = SmtpSetup::plain().start();
    let (mut parcel, other) = (result("x"), result("y"));
    let ids = |mails: &[Mail]| -> Vec<String> {
        mails
            .iter()
            .map(|mail| parse(mail).message_id().unwrap().to_owned())
            .collect()
    };
    let plain = Setting {
        port: server.port,
        ..Setting::default()
    }
    .open()
    .unwrap();
    for attempt in [1, 2] {
        parcel.attempt = attempt;
        plain.send(std::slice::from_ref(&parcel)).await;
    }
    let channel = r#"email = "ann.lee@example.com", digest = "1h""#;
    let digest = Setting {
        port: server.port,
        channel,
        ..Setting::default()
    }
    .open()
    .unwrap();
    digest.send(&[parcel.clone(), other.clone()]).await;
    digest.send(&[other.clone(), parcel.clone()]).await;
    digest.send(&[other]).await;
    let ids = ids(&server.wait_for(5));
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[2], ids[3]);
    assert!(ids[2] != ids[0] && ids[4] != ids[2], "{ids:?}");
}

#[tokio::test]
async fn a_digest_is_one_message_for_the_results_of_one_window() {
    let server = SmtpSetup::plain().start();
    let channel = r#"email = "ann.lee@example.com", digest = "1h""#;
    let email = Setting {
        port: server.port,
        channel,
        ..Setting::default()
    }
    .open()
    .unwrap();
    assert_eq!(
        email.due("2026-03-01T10:10:00Z".parse().unwrap()),
        "2026-03-01T11:00:00Z".parse().unwrap()
    );
    assert!(email.batch() >= 500);
    let groups = ["10:00", "10:59", "11:00", "11:01"]
        .map(|time| email.group(format!("2026-03-01T{time}:00Z").parse().unwrap()));
    assert!(groups[0] == groups[1] && groups[1] != groups[2] && groups[2] == groups[3]);
    let parcels = [result("the first text"), failed(), result("the third text")];
    let verdicts = email.send(&parcels).await;
    assert!(
        verdicts
            .iter()
            .all(|verdict| verdict.kind == VerdictKind::Delivered),
        "{verdicts:?}"
    );
    assert!(verdicts.iter().all(|one| one.detail.contains("TEST0001")));
    let mails = server.wait_for(1);
    assert_eq!(mails.len(), 1);
    assert_eq!(
        parse(&mails[0]).subject(),
        Some("reviews: 3 results, 1 failed")
    );
    for body in [text(&mails[0]), html(&mails[0])] {
        for part in [
            "the first text",
            "the third text",
            "page 1 is no picture",
            "2026-03-01 10:00 UTC",
            "2026-03-01 11:00 UTC",
        ] {
            assert!(body.contains(part), "{part} in {body}");
        }
        for parcel in &parcels {
            assert!(
                body.replace("&#x2f;", "/")
                    .contains(&format!("/v1/jobs/{}/result", parcel.job)),
                "{body}"
            );
        }
    }
}

#[tokio::test]
async fn without_starttls_nothing_is_sent() {
    let server = SmtpSetup::plain().start();
    let smtp = "username = \"linkspan\"\npassword = \"${env:SMTP}\"";
    let email = Setting {
        port: server.port,
        smtp,
        ..Setting::default()
    }
    .open()
    .unwrap();
    let verdicts = email.send(&[result("x")]).await;
    assert_eq!(verdicts[0].kind, RETRY);
    assert!(verdicts[0].detail.contains("STARTTLS"), "{verdicts:?}");
    let said = server.said();
    assert!(
        said.contains("EHLO") && !said.contains("AUTH") && !said.contains("MAIL"),
        "{said}"
    );
    assert!(server.mails().is_empty());
}

#[tokio::test]
async fn words_sent_in_plain_before_tls_are_not_taken_for_encrypted_ones() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let between = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = vec![0; 1024];
        stream.write_all(b"220 mail.test\r\n").await.unwrap();
        let _ = stream.read(&mut heard).await.unwrap();
        stream
            .write_all(b"250-mail.test\r\n250 STARTTLS\r\n")
            .await
            .unwrap();
        let _ = stream.read(&mut heard).await.unwrap();
        stream
            .write_all(b"220 go\r\n250 injected\r\n")
            .await
            .unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        rest
    });
    let email = Setting {
        port,
        smtp: "",
        ..Setting::default()
    }
    .open()
    .unwrap();
    let verdicts = email.send(&[result("x")]).await;
    assert_eq!(verdicts[0].kind, RETRY);
    assert!(
        verdicts[0].detail.contains("plain text after STARTTLS"),
        "{verdicts:?}"
    );
    assert!(between.await.unwrap().is_empty(), "no handshake was begun");
}

#[tokio::test]
async fn a_wrong_certificate_gets_no_mail() {
    let (right, other, named) = (
        Certificates::new("localhost"),
        Certificates::new("localhost"),
        Certificates::new("other.test"),
    );
    for (server, ca, part) in [
        (&right, other.path("ca.pem"), "not trusted"),
        (&named, named.path("ca.pem"), "another name"),
    ] {
        let server = server.starttls().start();
        let email = Setting {
            port: server.port,
            smtp: "",
            ca: Some(&ca),
            ..Setting::default()
        }
        .open()
        .unwrap();
        let verdicts = email.send(&[result("x")]).await;
        assert_eq!(verdicts[0].kind, RETRY);
        assert!(verdicts[0].detail.contains(part), "{verdicts:?}");
        assert!(!server.said().contains("MAIL") && server.mails().is_empty());
    }
}

#[tokio::test]
async fn a_wrong_password_fails_without_a_word_of_it() {
    let certificates = Certificates::new("localhost");
    let ca = certificates.path("ca.pem");
    let server = certificates.starttls().user("linkspan", "another").start();
    let smtp = "username = \"linkspan\"\npassword = \"${env:SMTP}\"";
    let email = Setting {
        port: server.port,
        smtp,
        ca: Some(&ca),
        ..Setting::default()
    }
    .open()
    .unwrap();
    let verdicts = email.send(&[result("x")]).await;
    assert_eq!((verdicts[0].kind, verdicts[0].status), (RETRY, Some(535)));
    let shown = format!("{verdicts:?} {email:?}");
    assert!(
        !shown.contains(PASSWORD) && !shown.contains("Y29ycmVjd"),
        "{shown}"
    );
    assert!(server.mails().is_empty());
}

#[tokio::test]
async fn the_servers_reply_decides_and_names_nobody() {
    for (command, reply, kind, status, detail) in [
        (
            "RCPT",
            "550 5.1.1 <ADDRESS>: no such user here",
            VerdictKind::Dead,
            550,
            "localhost answered 550: 5.1.1 …@example.com>: no such user here",
        ),
        (
            "RCPT",
            "451 4.7.1 greylisted, try again",
            RETRY,
            451,
            "localhost answered 451: 4.7.1 greylisted, try again",
        ),
        (
            "RCPT",
            "550 user ann.lee is unknown",
            VerdictKind::Dead,
            550,
            "localhost answered 550: user … is unknown",
        ),
        (
            "MAIL",
            "530 5.7.0 Authentication required",
            RETRY,
            530,
            "localhost answered 530: 5.7.0 Authentication required",
        ),
        (
            "DATA",
            "552 5.3.4 too large",
            VerdictKind::Dead,
            552,
            "localhost answered 552: 5.3.4 too large",
        ),
        (
            "DATA",
            "452 4.3.1 full",
            RETRY,
            452,
            "localhost answered 452: 4.3.1 full",
        ),
    ] {
        let server = SmtpSetup::plain().reply(command, reply).start();
        let email = Setting {
            port: server.port,
            ..Setting::default()
        }
        .open()
        .unwrap();
        let verdicts = email.send(&[result("x")]).await;
        let expected = Verdict {
            kind,
            status: Some(status),
            detail: detail.to_owned(),
        };
        assert_eq!(verdicts, [expected], "{reply}");
    }
}

#[tokio::test]
async fn a_server_that_was_down_gets_the_mail_when_it_is_up() {
    let server = SmtpSetup::plain().start();
    let port = server.port;
    drop(server);
    let email = Setting {
        port,
        ..Setting::default()
    }
    .open()
    .unwrap();
    let parcel = result("x");
    let verdicts = email.send(std::slice::from_ref(&parcel)).await;
    assert_eq!(verdicts[0].kind, RETRY, "{verdicts:?}");
    let server: SmtpServer = SmtpSetup::plain().port(port).start();
    let verdicts = email.send(&[parcel]).await;
    assert_eq!(verdicts[0].kind, VerdictKind::Delivered, "{verdicts:?}");
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test]
async fn an_address_that_must_not_be_called_is_not() {
    let server = SmtpSetup::plain().start();
    let setting = Setting {
        port: server.port,
        network: "10.0.0.0/8",
        ..Setting::default()
    };
    let faults = setting.open().unwrap_err();
    let expected = "email.server: localhost is an address of this machine, which is not called; where that is meant, add \"127.0.0.1/32\" to \
                    outbound.private_networks";
    assert_eq!(faults, [expected]);
    // A name is judged when it is called; trying it again would change nothing.
    let outbound = Outbound::new(&settings(&[setting.network]), Path::new(".")).unwrap();
    let error = outbound.stream("localhost", server.port).await.unwrap_err();
    let failure = Failure::from(error);
    assert!(failure.permanent, "{failure:?}");
    assert!(failure.detail.contains("outbound.private_networks"));
    assert!(server.said().is_empty() && server.mails().is_empty());
}

#[tokio::test]
async fn a_recipient_who_is_refused_keeps_the_mail_from_nobody_else() {
    let (bob, cleo) = ("RCPT bob@example.com", "RCPT cleo@example.com");
    let unknown = "550 5.1.1 <ADDRESS>: no such user";
    let full = "452 4.2.2 the mailbox is full";
    let to = r#"email = "ann.lee@example.com, bob@example.com, cleo@example.com""#;
    let all = SmtpSetup::plain();
    let only_ann = all.clone().reply(bob, unknown).reply(cleo, full);
    for (setup, kind, detail, took) in [
        (
            all.clone().reply(bob, unknown),
            VerdictKind::Delivered,
            "localhost answered 250: 2.0.0 Ok: queued as TEST0001; not for all: recipient 2 (…@example.com): localhost answered 550: \
             5.1.1 …@example.com>: no such user",
            2,
        ),
        (
            only_ann.clone(),
            VerdictKind::Delivered,
            "localhost answered 452: 4.2.2 the mailbox is full",
            1,
        ),
        // Nobody is left: what may pass is tried again.
        (
            only_ann.reply("RCPT ann.lee@example.com", unknown),
            RETRY,
            "localhost answered 452: 4.2.2 the mailbox is full",
            0,
        ),
        (
            all.reply("RCPT", unknown),
            VerdictKind::Dead,
            "localhost answered 550: 5.1.1 …@example.com>: no such user",
            0,
        ),
    ] {
        let server = setup.start();
        let email = Setting {
            port: server.port,
            channel: to,
            ..Setting::default()
        };
        let verdicts = email.open().unwrap().send(&[result("x")]).await;
        assert_eq!(verdicts[0].kind, kind, "{verdicts:?}");
        assert!(verdicts[0].detail.ends_with(detail), "{verdicts:?}");
        assert!(!verdicts[0].detail.contains("bob"), "{verdicts:?}");
        let mails = server.mails();
        assert_eq!(mails.first().map_or(0, |mail| mail.to.len()), took);
    }
}

#[tokio::test]
async fn with_map_a_message_shows_what_it_made_and_nothing_else() {
    let channels = [
        r#"email = "ann.lee@example.com""#,
        r#"email = "ann.lee@example.com", digest = "1h""#,
    ];
    let kept = Timestamp::now() + jiff::SignedDuration::from_hours(2);
    let contents = [
        (json!({"verdict": "genuine"}), "genuine"),
        (json!("all is well\nwith it"), "all is well"),
        (json!([1, 2]), "1, 2"),
    ];
    for channel in channels {
        for (content, part) in &contents {
            let mut parcels = [result("Mira Lindqvist 1984"), failed()];
            for parcel in &mut parcels {
                parcel.content = content.clone();
                parcel.mapped = true;
                parcel.kept_until = Some(kept);
            }
            for parcel in &parcels {
                let mail = one(channel, parcel).await;
                for body in [text(&mail), html(&mail)] {
                    let body = body.replace("&#x2f;", "/");
                    assert!(body.contains(part), "{part} in {body}");
                    assert!(
                        !body.contains("Mira") && !body.contains("no picture"),
                        "{body}"
                    );
                    let link = format!("/v1/deliveries/{}/content?", parcel.id);
                    assert!(
                        body.contains(&link) && !body.contains("/v1/jobs/"),
                        "{body}"
                    );
                    assert!(body.contains(&minute(kept)), "the retention's end: {body}");
                }
            }
        }
    }
    // Past its retention a result goes with its last delivery: a link to it would open nothing.
    let mut late = result("x");
    late.kept_until = Some(Timestamp::now());
    let mail = one(channels[0], &late).await;
    assert!(!text(&mail).contains("https://"), "{}", text(&mail));
}

#[tokio::test]
async fn an_operators_templates_are_used() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("own.txt"),
        "{{ result.answers.read.text }} {{ result.answers.none.at.all }}!",
    )
    .unwrap();
    std::fs::write(
        folder.path().join("own.page"),
        "<b>{{ result.answers.read.text }}</b>",
    )
    .unwrap();
    let server = SmtpSetup::plain().start();
    let channel =
        r#"email = "ann.lee@example.com", text_template = "own.txt", html_template = "own.page""#;
    let email = Setting {
        port: server.port,
        channel,
        folder: folder.path(),
        ..Setting::default()
    }
    .open()
    .unwrap();
    let verdicts = email.send(&[result("<i>\u{202e}")]).await;
    assert_eq!(verdicts[0].kind, VerdictKind::Delivered, "{verdicts:?}");
    let mail = server.wait_for(1).remove(0);
    assert_eq!(text(&mail).trim(), "<i>\u{fffd} !");
    assert_eq!(html(&mail).trim(), "<b>&lt;i&gt;\u{fffd}</b>");
}

#[tokio::test]
async fn a_template_that_fails_makes_a_dead_letter_without_the_value() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("own.txt"),
        "fine\n{{ result.answers.read.text + 1 }}",
    )
    .unwrap();
    let channel = r#"email = "ann.lee@example.com", text_template = "own.txt""#;
    let email = Setting {
        channel,
        folder: folder.path(),
        ..Setting::default()
    }
    .open()
    .unwrap();
    let verdicts = email.send(&[result("private words")]).await;
    assert_eq!(verdicts[0].kind, VerdictKind::Dead);
    assert!(
        verdicts[0].detail.contains("own.txt, line 2") && !verdicts[0].detail.contains("private"),
        "{verdicts:?}"
    );
}

#[test]
fn faults_are_found_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.html"), "<p>\n{% if x %}\n").unwrap();
    let base = Setting {
        folder: folder.path(),
        ..Setting::default()
    };
    for (channel, smtp, part) in [
        (
            r#"email = "a@evil.test""#,
            "",
            "email: evil.test is not among email.allowed_domains",
        ),
        (
            r#"email = "a@example.com", html_template = "bad.html""#,
            "",
            "html_template: bad.html, line ",
        ),
        (
            r#"email = "a@example.com", text_template = "none.txt""#,
            "",
            "text_template: cannot read none.txt",
        ),
        (
            r#"email = "a@example.com", subject = "{{ x""#,
            "",
            "subject, line 1",
        ),
        (
            r#"email = "no address@""#,
            "",
            "email: holds an address that cannot be read",
        ),
        (
            r#"email = "a@example.com""#,
            "username = \"u\"",
            "email.password: is missing",
        ),
    ] {
        let faults = Setting {
            channel,
            smtp,
            ..base
        }
        .open()
        .unwrap_err();
        assert!(
            faults.iter().any(|fault| fault.starts_with(part)),
            "{channel}: {faults:?}"
        );
    }
}
