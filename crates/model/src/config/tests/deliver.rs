//! Tests of `deliver`: what is read, and what is refused.

use std::time::Duration;

use super::{SMALL, parse};
use crate::config::deliver::{Channel, channel_names};
use crate::config::{Config, Deliver, FileFormat, Method, Reference, Shape};

fn deliver(item: &str) -> Result<Deliver, String> {
    let file = format!(
        "{SMALL}deliver = [{item}]\n[email]\nserver = \"mail.example.com\"\nfrom = \"a@example.com\"\nallowed_domains = [\"example.com\"]\n"
    );
    let mut config = parse(&file).map_err(|faults| faults.to_string())?;
    let mut integration = config.integrations.remove("reviews").unwrap();
    Ok(integration.deliver.remove(0))
}

#[test]
fn a_channel_has_its_own_keys_and_those_of_every_channel() {
    let item = deliver(
        r#"{ webhook = "https://crm.example.com/hooks?k=1", secret = "${env:TOKEN}", name = "crm", when = ".status", retry = ["1s", "2m"], timeout = "3s" }"#,
    )
    .unwrap();
    assert_eq!(item.common.name.unwrap().as_str(), "crm");
    assert_eq!(item.common.when.unwrap().as_str(), ".status");
    assert_eq!(item.common.retry, [1, 120].map(Duration::from_secs));
    assert_eq!(item.common.timeout, Duration::from_secs(3));
    assert_eq!(item.channel.kind(), "webhook");
    let Channel::Webhook(webhook) = item.channel else {
        panic!("no webhook")
    };
    assert_eq!(webhook.webhook.reveal().path(), "/hooks");
    assert_eq!(webhook.secret.reveal(), "open sesame");
    assert_eq!(
        format!("{webhook:?}").matches("hooks").count(),
        0,
        "the address may be a secret: {webhook:?}"
    );
}

#[test]
fn each_channel_is_told_by_its_key() {
    let http = r#"{ http = "http://api.example.com", method = "PUT", shape = "teams", headers = { Authorization = "${env:TOKEN}" }, expect = ["2xx", "404", "200-204"] }"#;
    let Channel::Http(http) = deliver(http).unwrap().channel else {
        panic!("no http")
    };
    assert_eq!((http.method, http.shape), (Method::Put, Shape::Teams));
    let statuses: Vec<_> = http
        .expect
        .iter()
        .map(|range| (range.first, range.last))
        .collect();
    assert_eq!(statuses, [(200, 299), (404, 404), (200, 204)]);
    let headers = http.headers.unwrap();
    assert_eq!(format!("{headers:?}"), r#"{"authorization"}"#);
    let values: Vec<_> = headers.iter().map(|(_, value)| value.reveal()).collect();
    assert_eq!(values, ["open sesame"]);
    let Channel::File(file) = deliver(r#"{ file = "out.csv", format = "csv" }"#)
        .unwrap()
        .channel
    else {
        panic!("no file")
    };
    assert_eq!(file.format, FileFormat::Csv);
    let email = deliver(r#"{ email = "Ada <ada@example.com>, bo@example.com", digest = "1h" }"#);
    assert_eq!(email.unwrap().channel.kind(), "email");
}

#[test]
fn what_is_wrong_is_named_with_its_item() {
    let at = |rest: &str| format!("linkspan.toml:7: integration.reviews.deliver[0]{rest}");
    for (item, fault) in [
        (
            "{}",
            at(
                ": names no channel; give one of the keys webhook, email, http, file, kafka, kinesis",
            ),
        ),
        (
            r#"{ file = "a", http = "http://a.example" }"#,
            at(": names 2 channels (http, file); give each an item of its own"),
        ),
        (
            r#"{ webhok = "https://a.example", secret = "${env:TOKEN}" }"#,
            at(".webhok: unknown key; did you mean \"webhook\"?"),
        ),
        (
            r#"{ http = "http://a.example", headers = { authorization = "Bearer ${env:TOKEN}" } }"#,
            at(
                ".headers.authorization: a reference must be the whole string: put what stands around it into the value, such as \"Bearer …\" for a header",
            ),
        ),
        (
            r#"{ file = "a", secrte = "b" }"#,
            at(
                ".secrte: unknown key; the keys here are file, format, name, when, map, retry, concurrency, rate_limit, timeout",
            ),
        ),
        (
            r#"{ file = "a", timeuot = "1s" }"#,
            at(".timeuot: unknown key; did you mean \"timeout\"?"),
        ),
        (
            r#"{ webhook = "https://a.example", secret = "sesame" }"#,
            at(
                ".secret: a secret must not stand in the file: write \"${env:NAME}\" or \"${file:PATH}\"",
            ),
        ),
        (
            r#"{ http = "https://user:sesame@a.example" }"#,
            at(".http: the address holds a user or a password: send them in a header"),
        ),
        (
            r#"{ http = "ftp://a.example" }"#,
            at(
                ".http: \"ftp://a.example\" is not an address such as \"https://crm.example.com/hooks\"",
            ),
        ),
        (
            r#"{ http = "http://a.example", headers = { "a b" = "c" } }"#,
            at(".headers.\"a b\": is not the name of a header"),
        ),
        (
            r#"{ http = "http://a.example", expect = ["600"] }"#,
            at(".expect[0]: \"600\" is not a status such as \"204\", \"2xx\" or \"200-204\""),
        ),
        (
            r#"{ email = "nobody" }"#,
            at(
                ".email: \"nobody\" is not email addresses such as \"Support <support@example.com>\"",
            ),
        ),
    ] {
        assert_eq!(deliver(item).unwrap_err(), fault, "{item}");
    }
}

#[test]
fn channels_have_names_of_their_own() {
    let file = |items: &str| format!("{SMALL}overflow = \"async\"\ndeliver = [{items}]\n");
    let several = r#"{ file = "a", name = "all" }, { file = "b", name = "crm" }, { http = "http://a.example" }"#;
    let config = parse(&file(several)).unwrap();
    let reviews = &config.integrations["reviews"];
    assert_eq!(channel_names(&reviews.deliver), ["all", "crm", "http"]);
    assert_eq!(config.warnings, []);
    let at = "linkspan.toml:8: integration.reviews.deliver[1]";
    let twice = |name: &str| {
        format!(
            "another channel of this integration has the name \"{name}\": give this one a name of its own"
        )
    };
    for (items, fault) in [
        (
            r#"{ file = "a" }, { http = "http://a.example", name = "file" }"#,
            format!("{at}.name: {}", twice("file")),
        ),
        (
            r#"{ file = "a", name = "http" }, { http = "http://a.example" }"#,
            format!("{at}: {}", twice("http")),
        ),
        (
            r#"{ file = "a", name = "crm" }, { file = "b" }"#,
            format!(
                "{at}: this integration has several channels of the kind file: give each a name, by which its deliveries are known when the others change"
            ),
        ),
        (
            r#"{ file = "a" }, { email = "a@example.com" }"#,
            format!("{at}.email: needs a mail server: add the section [email]"),
        ),
    ] {
        let found = parse(&file(items)).unwrap_err().to_string();
        assert_eq!(found, fault, "{items}");
    }
}

#[test]
fn links_that_lead_nowhere_are_worth_a_look() {
    let hook = |rest: &str| {
        format!("{{ webhook = \"https://a.example\", secret = \"${{env:S}}\"{rest} }}")
    };
    let slack = r#"{ http = "https://a.example", shape = "slack" }"#;
    let nowhere = |of: &str| {
        format!(
            "linkspan.toml:1: server.public_url: is not set, so the links of integration.reviews.deliver[{of} lead to \
             http://127.0.0.1:8080: set it to the address at which others reach the gateway"
        )
    };
    let short = "linkspan.toml:10: integration.reviews.deliver[0].link_ttl: results are kept for 1h, so links end then and not after 2h: \
                 raise retention, or lower this";
    for (url, items, expected) in [
        ("", hook(""), vec![nowhere("0]")]),
        (
            "",
            format!("{{ file = \"a\" }}, {slack}, {}", hook("")),
            vec![nowhere("1] (and of 1 more)")],
        ),
        ("", "{ http = \"https://a.example\" }".to_owned(), vec![]),
        (
            "public_url = \"https://b.example\"",
            hook(", link_ttl = \"1h\""),
            vec![],
        ),
        (
            "public_url = \"https://b.example\"",
            hook(", link_ttl = \"2h\""),
            vec![short.to_owned()],
        ),
    ] {
        let toml = format!(
            "[server]\n{url}\n[service.mood]\ntask = \"sentiment\"\n[integration.reviews]\npattern = \"async\"\nsteps = [\"mood\"]\n{}\n\ndeliver = [{items}]\n",
            if items.contains("link_ttl") {
                "retention = \"1h\""
            } else {
                ""
            }
        );
        let config = Config::parse(&toml, "linkspan.toml", &|_: Reference<'_>| {
            Ok("x".to_owned())
        })
        .unwrap();
        let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings, expected, "{items}");
    }
}

#[test]
fn channels_of_an_integration_that_answers_in_the_response_are_worth_a_look() {
    let config = parse(&format!("{SMALL}deliver = [{{ file = \"a\" }}]\n")).unwrap();
    let warning = config.warnings[0].to_string();
    assert!(
        warning
            .starts_with("linkspan.toml:7: integration.reviews.deliver: only jobs are delivered"),
        "{warning}"
    );
}
