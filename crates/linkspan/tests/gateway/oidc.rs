//! Signing in through an identity provider, against one that the test writes: with real signatures, and with everything that can be
//! wrong in what it says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use linkspan::store::AuditQuery;
use linkspan_testkit::Answer;
use reqwest::{Method, Url};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::browser::{Browser, set_cookies};
use crate::scripted::Scene;

const INTEGRATIONS: &str =
    "[integration.letters]\npattern = \"async\"\nsteps = [\"mood\"]\nattempts = 1\n";

/// A key of the provider.
struct Signer {
    kid: String,
    pair: EcdsaKeyPair,
}

impl Signer {
    fn new(kid: &str) -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self {
            kid: kid.to_owned(),
            pair: EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap(),
        }
    }

    fn jwk(&self) -> Value {
        // An uncompressed point: 4, x, y.
        let point = self.pair.public_key().as_ref();
        json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid,
                "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]) })
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": self.kid });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let signature = self
            .pair
            .sign(&SystemRandom::new(), signed.as_bytes())
            .unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// What the provider does next.
#[derive(Default)]
struct Script {
    /// The keys that it publishes.
    keys: Vec<Value>,
    /// The ID token that it gives for the code `good`.
    id_token: String,
    /// What was shown at its token endpoint last.
    shown: BTreeMap<String, String>,
    /// How often its keys were read.
    keys_read: usize,
}

#[derive(Clone)]
struct Issuer {
    url: String,
    script: Arc<Mutex<Script>>,
}

impl Issuer {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            script: Arc::default(),
        };
        let router = Router::new()
            .route(
                "/.well-known/openid-configuration",
                get(|State(issuer): State<Self>| async move {
                    let url = &issuer.url;
                    Json(json!({
                        "issuer": url,
                        "authorization_endpoint": format!("{url}/authorize"),
                        "token_endpoint": format!("{url}/token"),
                        "jwks_uri": format!("{url}/keys"),
                        "response_types_supported": ["code"],
                        "subject_types_supported": ["public"],
                        "id_token_signing_alg_values_supported": ["ES256", "HS256", "none"],
                    }))
                }),
            )
            .route(
                "/keys",
                get(|State(issuer): State<Self>| async move {
                    let mut script = issuer.script.lock().unwrap();
                    script.keys_read += 1;
                    Json(json!({ "keys": script.keys }))
                }),
            )
            .route("/token", post(token))
            .with_state(issuer.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        issuer
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }
}

async fn token(
    State(issuer): State<Issuer>,
    headers: http::HeaderMap,
    body: String,
) -> (http::StatusCode, Json<Value>) {
    let shown: BTreeMap<String, String> = url::form_urlencoded::parse(body.as_bytes())
        .into_owned()
        .collect();
    let mut script = issuer.script.lock().unwrap();
    let good = shown.get("code").is_some_and(|code| code == "good");
    script.shown = shown;
    if let Some(authorization) = headers.get("authorization") {
        let text = authorization.to_str().unwrap().to_owned();
        script.shown.insert("authorization".to_owned(), text);
    }
    if !good {
        return (
            http::StatusCode::BAD_REQUEST,
            Json(json!({ "error": "invalid_grant" })),
        );
    }
    let answer =
        json!({ "access_token": "at", "token_type": "Bearer", "id_token": script.id_token });
    (http::StatusCode::OK, Json(answer))
}

/// A gateway that knows the provider, and the provider's key.
struct Rig {
    issuer: Issuer,
    signer: Signer,
    scene: Scene,
}

impl Rig {
    async fn start() -> Self {
        let issuer = Issuer::start().await;
        let signer = Signer::new("k1");
        issuer.script().keys = vec![signer.jwk()];
        let scene = Scene::start_keyed("", &rules(&issuer, "ai-users")).await;
        scene.engine.open();
        Self {
            issuer,
            signer,
            scene,
        }
    }

    /// Sends a browser to the provider; gives the parameters that it arrives there with.
    async fn leave(&self, browser: &mut Browser) -> BTreeMap<String, String> {
        let left = browser.get("/console/oidc/login").await;
        assert_eq!(left.status, 303, "{}", left.body);
        let to = Url::parse(left.header("location").unwrap()).unwrap();
        assert_eq!(
            format!("{}/authorize", self.issuer.url),
            to.as_str().split('?').next().unwrap()
        );
        to.query_pairs().into_owned().collect()
    }

    /// Claims that are right for a sign-in.
    fn claims(&self, sent: &BTreeMap<String, String>) -> Value {
        let now = Timestamp::now().as_second();
        json!({ "iss": self.issuer.url, "aud": "linkspan", "sub": "u-1", "nonce": sent["nonce"], "iat": now, "exp": now + 300,
                "email": "ana@example.com", "email_verified": true, "groups": ["staff", "ai-users"] })
    }

    /// Lets the provider say these claims, and brings the browser back.
    async fn come_back(
        &self,
        browser: &mut Browser,
        sent: &BTreeMap<String, String>,
        claims: &Value,
    ) -> Answer {
        self.issuer.script().id_token = self.signer.sign(claims);
        browser.get(&back(&sent["state"])).await
    }
}

/// A configuration that knows the provider; `group` may invoke and read.
fn rules(issuer: &Issuer, group: &str) -> String {
    format!(
        "{INTEGRATIONS}[outbound]\nprivate_networks = [\"127.0.0.0/8\"]\n\
         [console.oidc]\nissuer = \"{}\"\nclient_id = \"linkspan\"\nadmin = [\"root@example.com\", \"sub:u-7\"]\n\
         scope_claim = \"groups\"\nscopes = {{ {group} = [\"invoke\", \"read:letters\"], ai-readers = [\"read\"] }}\n",
        issuer.url
    )
}

fn back(state: &str) -> String {
    format!("/console/oidc/callback?code=good&state={state}")
}

/// A refusal is a page for people, without a session, and tells no secret.
fn assert_refused(answer: &Answer, why: &str) {
    assert!(
        (400..600).contains(&answer.status),
        "{why}: {}",
        answer.status
    );
    assert_eq!(
        answer.header("content-type"),
        Some("text/html; charset=utf-8"),
        "{why}"
    );
    assert!(
        !set_cookies(answer)
            .iter()
            .any(|cookie| cookie.contains("linkspan_session=")),
        "{why}"
    );
    assert!(answer.header("location").is_none(), "{why}");
    assert!(
        answer.body.contains("<h1>") && !answer.body.contains("<script"),
        "{why}: {}",
        answer.body
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_whom_the_provider_knows_signs_in() {
    let rig = Rig::start().await;
    let mut browser = Browser::at(&rig.scene.url());
    assert_eq!(browser.get("/console/session").await.json()["oidc"], true);
    let sent = rig.leave(&mut browser).await;
    assert_eq!(sent["response_type"], "code");
    assert_eq!(sent["client_id"], "linkspan");
    assert_eq!(sent["code_challenge_method"], "S256");
    assert_eq!(
        sent["redirect_uri"],
        format!("{}/console/oidc/callback", rig.scene.url())
    );
    assert_eq!(sent["scope"], "openid email profile");
    assert!(sent["state"].len() >= 43 && sent["nonce"].len() >= 22);

    let arrived = rig.come_back(&mut browser, &sent, &rig.claims(&sent)).await;
    assert_eq!(
        (arrived.status, arrived.header("location")),
        (303, Some("/")),
        "{}",
        arrived.body
    );
    let cookies = set_cookies(&arrived);
    let session = cookies
        .iter()
        .find(|cookie| cookie.starts_with("linkspan_session="));
    for flag in ["HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(session.unwrap().contains(flag), "{cookies:?}");
    }
    assert!(!browser.cookies.contains_key("linkspan_signin"));
    let shown = rig.issuer.script().shown.clone();
    assert_eq!(shown["grant_type"], "authorization_code");
    let verifier = ring::digest::digest(&ring::digest::SHA256, shown["code_verifier"].as_bytes());
    assert_eq!(URL_SAFE_NO_PAD.encode(verifier), sent["code_challenge"]);

    let session = browser.get("/console/session").await.json();
    assert_eq!(
        (&session["name"], &session["scopes"]),
        (
            &json!("oidc:ana@example.com"),
            &json!(["invoke", "read:letters"])
        )
    );
    browser.csrf = session["csrf"].as_str().map(str::to_owned);
    let path = "/v1/integrations/letters/invocations";
    let accepted = browser.post(path, &json!({"text": "x"})).await;
    let job = browser.get(&format!("/v1/jobs/{}", accepted.job())).await;
    assert_eq!(job.json()["caller"], "oidc:ana@example.com");

    // A key of the same name is somebody else.
    let key = rig.scene.key("ana@example.com", &["read"]).await;
    let theirs = rig
        .scene
        .with_key(&key)
        .get(&format!("/v1/jobs/{}", accepted.job()))
        .await;
    assert_eq!(theirs.status, 404);

    let page = rig
        .scene
        .served
        .gateway
        .store
        .list_audit(AuditQuery::newest(10))
        .await
        .unwrap();
    let line = page
        .lines
        .iter()
        .find(|line| line.action == "session.sign-in")
        .unwrap();
    assert_eq!(
        (line.actor.name.as_str(), line.target.as_str()),
        ("oidc:ana@example.com", "oidc:ana@example.com (u-1)")
    );
    let target = line.target.clone();
    assert_eq!(browser.delete("/console/session").await.status, 204);
    assert!(!browser.is_signed_in().await);
    let store = &rig.scene.served.gateway.store;
    let newest = store.list_audit(AuditQuery::newest(1)).await.unwrap();
    let newest = &newest.lines[0];
    assert_eq!(
        (newest.action.as_str(), &newest.target),
        ("session.sign-out", &target)
    );
    rig.scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_go_to_the_provider_nobody_is_kept_from_it() {
    let rig = Rig::start().await;
    let mut browser = Browser::at(&rig.scene.url());
    let sent = rig.leave(&mut browser).await;
    for _ in 0..200 {
        rig.leave(&mut Browser::at(&rig.scene.url())).await;
    }
    let claims = rig.claims(&sent);
    let arrived = rig.come_back(&mut browser, &sent, &claims).await;
    assert_eq!(arrived.status, 303, "{}", arrived.body);
    rig.scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_the_provider_gives_to_somebody_else_is_not_theirs() {
    let rig = Rig::start().await;
    let sign_in = async |rig: &Rig, subject: &str| {
        let mut browser = Browser::at(&rig.scene.url());
        let sent = rig.leave(&mut browser).await;
        let mut claims = rig.claims(&sent);
        claims["sub"] = json!(subject);
        rig.come_back(&mut browser, &sent, &claims).await
    };
    for (subject, status) in [("u-1", 303), ("u-2", 403), ("u-1", 303)] {
        let answer = sign_in(&rig, subject).await;
        assert_eq!(answer.status, status, "{subject}");
        if status == 403 {
            assert_refused(&answer, "another person");
            assert!(answer.body.contains("sub:u-2"), "{}", answer.body);
        }
    }
    let Rig {
        issuer,
        signer,
        scene,
    } = rig;
    let folder = scene.stop().await;
    let rules = format!("{}successors = [\"sub:u-2\"]\n", rules(&issuer, "ai-users"));
    let scene = Scene::start_as(folder, "", &rules).await;
    let rig = Rig {
        issuer,
        signer,
        scene,
    };
    for (subject, status) in [("u-2", 303), ("u-3", 403)] {
        assert_eq!(sign_in(&rig, subject).await.status, status, "{subject}");
    }
    rig.scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_not_confirmed_counts_where_the_configuration_says_so() {
    let issuer = Issuer::start().await;
    let signer = Signer::new("k1");
    issuer.script().keys = vec![signer.jwk()];
    let rules = format!("{}unverified_email = true\n", rules(&issuer, "ai-users"));
    let scene = Scene::start_keyed("", &rules).await;
    let rig = Rig {
        issuer,
        signer,
        scene,
    };
    let mut browser = Browser::at(&rig.scene.url());
    let sent = rig.leave(&mut browser).await;
    let mut claims = rig.claims(&sent);
    claims.as_object_mut().unwrap().remove("email_verified");
    let arrived = rig.come_back(&mut browser, &sent, &claims).await;
    assert_eq!(arrived.status, 303, "{}", arrived.body);
    rig.scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_token_that_is_not_of_this_sign_in_opens_nothing() {
    let rig = Rig::start().await;
    let now = Timestamp::now().as_second();
    let wrong: [(&str, &str, Value); 10] = [
        ("another sign-in's nonce", "nonce", json!("stale")),
        ("no nonce", "nonce", Value::Null),
        ("another client's", "aud", json!("other")),
        ("for others as well", "aud", json!(["linkspan", "other"])),
        ("handed to another client", "azp", json!("other")),
        ("another issuer's", "iss", json!("https://evil.example")),
        ("over", "exp", json!(now - 10)),
        ("never over", "exp", Value::Null),
        (
            "of another access token",
            "at_hash",
            json!("AAAAAAAAAAAAAAAAAAAAAA"),
        ),
        ("of nobody", "sub", Value::Null),
    ];
    for (why, claim, value) in wrong {
        let mut browser = Browser::at(&rig.scene.url());
        let sent = rig.leave(&mut browser).await;
        let mut claims = rig.claims(&sent);
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(claim)),
            value => claims[claim] = value,
        }
        let answer = rig.come_back(&mut browser, &sent, &claims).await;
        assert_refused(&answer, why);
        assert!(!browser.is_signed_in().await, "{why}");
    }
    rig.scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_providers_own_signature_counts() {
    let rig = Rig::start().await;
    let mut forged = Vec::new();
    let header = |header: &Value| URL_SAFE_NO_PAD.encode(header.to_string());
    for why in [
        "another key",
        "no signature",
        "a shared secret",
        "changed claims",
    ] {
        let mut browser = Browser::at(&rig.scene.url());
        let sent = rig.leave(&mut browser).await;
        let claims = rig.claims(&sent);
        let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
        let token = match why {
            "another key" => Signer::new("k1").sign(&claims),
            "no signature" => format!("{}.{payload}.", header(&json!({"alg": "none"}))),
            "a shared secret" => {
                // Signed with what everyone knows: the provider's public key.
                let signed = format!(
                    "{}.{payload}",
                    header(&json!({"alg": "HS256", "kid": "k1"}))
                );
                let key = rig.signer.pair.public_key().as_ref();
                let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
                let tag = ring::hmac::sign(&key, signed.as_bytes());
                format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
            }
            _ => {
                let token = rig.signer.sign(&claims);
                let mut parts: Vec<_> = token.split('.').collect();
                let mut changed = claims.clone();
                changed["groups"] = json!(["ai-readers"]);
                let payload = URL_SAFE_NO_PAD.encode(changed.to_string());
                parts[1] = &payload;
                parts.join(".")
            }
        };
        rig.issuer.script().id_token = token;
        let answer = browser.get(&back(&sent["state"])).await;
        assert_refused(&answer, why);
        assert!(!browser.is_signed_in().await, "{why}");
        forged.push(answer.status);
    }
    assert_eq!(forged, [401; 4]);
    rig.scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_is_ended_once_and_by_the_browser_that_began_it() {
    let rig = Rig::start().await;
    let mut browser = Browser::at(&rig.scene.url());
    let sent = rig.leave(&mut browser).await;
    let claims = rig.claims(&sent);
    // An attacker brings a victim to the end of the attacker's own sign-in.
    let mut victim = Browser::at(&rig.scene.url());
    assert_refused(
        &rig.come_back(&mut victim, &sent, &claims).await,
        "another browser",
    );
    let other = rig.leave(&mut victim).await;
    assert_refused(
        &rig.come_back(&mut victim, &sent, &claims).await,
        "another browser's state",
    );
    assert_refused(&victim.get(&back("AAAA")).await, "a state of nobody");
    assert_refused(
        &victim.get("/console/oidc/callback").await,
        "nothing at all",
    );
    assert!(!victim.is_signed_in().await);
    assert_ne!(other["state"], sent["state"]);

    let kept = browser.cookies.clone();
    assert_eq!(
        rig.come_back(&mut browser, &sent, &claims).await.status,
        303
    );
    assert!(browser.is_signed_in().await);
    browser.cookies = kept;
    assert_refused(
        &rig.come_back(&mut browser, &sent, &claims).await,
        "the second time",
    );
    rig.scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_no_rule_names_is_told_so_and_not_let_in() {
    let rig = Rig::start().await;
    let cases: [(&str, Value, Option<Value>); 9] = [
        ("no group that counts", json!({"groups": ["staff"]}), None),
        (
            "a group that only looks alike",
            json!({"groups": "ai-users, ai-readers"}),
            None,
        ),
        (
            "an address that is not confirmed",
            json!({"email_verified": false}),
            None,
        ),
        (
            "an address of which nothing is said",
            json!({"email_verified": null}),
            None,
        ),
        ("no name", json!({"email": "\n"}), None),
        (
            "one group as a text",
            json!({"groups": "ai-readers"}),
            Some(json!(["read"])),
        ),
        (
            "an administrator",
            json!({"sub": "u-9", "email": "root@example.com", "groups": []}),
            Some(json!(["admin"])),
        ),
        (
            "an administrator by the provider's own id",
            json!({"sub": "u-7", "email": "cy@example.com", "groups": []}),
            Some(json!(["admin"])),
        ),
        (
            "a name like an administrator's id",
            json!({"sub": "u-8", "email": "sub:u-7", "groups": []}),
            None,
        ),
    ];
    for (why, changes, scopes) in cases {
        let mut browser = Browser::at(&rig.scene.url());
        let sent = rig.leave(&mut browser).await;
        let mut claims = rig.claims(&sent);
        for (claim, value) in changes.as_object().unwrap() {
            claims[claim] = value.clone();
        }
        let answer = rig.come_back(&mut browser, &sent, &claims).await;
        match scopes {
            None => {
                assert_refused(&answer, why);
                assert_eq!(answer.status, 403, "{why}");
            }
            Some(scopes) => {
                assert_eq!(answer.status, 303, "{why}: {}", answer.body);
                assert_eq!(
                    browser.get("/console/session").await.json()["scopes"],
                    scopes
                );
            }
        }
    }
    rig.scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_is_taken_back_holds_also_for_who_is_signed_in() {
    let rig = Rig::start().await;
    let mut browser = Browser::at(&rig.scene.url());
    let sent = rig.leave(&mut browser).await;
    let claims = rig.claims(&sent);
    assert_eq!(
        rig.come_back(&mut browser, &sent, &claims).await.status,
        303
    );
    let folder = rig.scene.stop().await;
    let scene = Scene::start_as(folder, "", &rules(&rig.issuer, "ai-users")).await;
    browser.moved_to(&scene.url());
    assert!(
        browser.is_signed_in().await,
        "a session outlives the gateway"
    );
    let folder = scene.stop().await;
    let scene = Scene::start_as(folder, "", &rules(&rig.issuer, "others")).await;
    browser.moved_to(&scene.url());
    assert!(!browser.is_signed_in().await);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_of_the_provider_is_read_when_it_is_met() {
    let mut rig = Rig::start().await;
    let mut browser = Browser::at(&rig.scene.url());
    let sent = rig.leave(&mut browser).await;
    let claims = rig.claims(&sent);
    assert_eq!(
        rig.come_back(&mut browser, &sent, &claims).await.status,
        303
    );
    assert_eq!(rig.issuer.script().keys_read, 1, "they are kept");
    rig.signer = Signer::new("k2");
    rig.issuer.script().keys = vec![rig.signer.jwk()];
    let signed_in = async || {
        let mut browser = Browser::at(&rig.scene.url());
        let sent = rig.leave(&mut browser).await;
        let claims = rig.claims(&sent);
        rig.come_back(&mut browser, &sent, &claims).await.status == 303
    };
    // Not more often than every few seconds, so that forged tokens make no flood of calls.
    let waited = tokio::time::timeout(std::time::Duration::from_secs(90), async {
        while !signed_in().await {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    });
    waited.await.expect("the new key is met");
    assert_eq!(rig.issuer.script().keys_read, 2);
    rig.scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_or_a_stranger_sends_is_shown_to_nobody_as_it_is() {
    let rig = Rig::start().await;
    for query in [
        "error=access_denied",
        "error=%3Cscript%3Ealert(1)%3C/script%3E",
        "error=access_denied&error_description=%3Cimg%20src=x%3E",
        "code=bad",
        "code=good&iss=https://evil.example",
        "code=good&error=access_denied",
    ] {
        let mut browser = Browser::at(&rig.scene.url());
        let sent = rig.leave(&mut browser).await;
        rig.issuer.script().id_token = rig.signer.sign(&rig.claims(&sent));
        let path = format!("/console/oidc/callback?{query}&state={}", sent["state"]);
        let answer = browser.get(&path).await;
        assert_refused(&answer, query);
        assert!(
            !answer.body.contains("alert") && !answer.body.contains("<img"),
            "{}",
            answer.body
        );
        assert!(!answer.body.contains(&sent["state"]), "{query}");
    }
    // No word of the address leads anywhere else.
    let mut browser = Browser::at(&rig.scene.url());
    let left = browser
        .get("/console/oidc/login?return_to=https://evil.example&redirect_uri=https://evil.example")
        .await;
    assert!(!left.header("location").unwrap().contains("evil"));
    rig.scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_away_is_said_to_be_away() {
    let toml = format!(
        "{INTEGRATIONS}[outbound]\nprivate_networks = [\"127.0.0.0/8\"]\n\
         [console.oidc]\nissuer = \"http://127.0.0.1:1\"\nclient_id = \"linkspan\"\nadmin = [\"root@example.com\"]\n"
    );
    let scene = Scene::start_keyed("", &toml).await;
    let mut browser = Browser::at(&scene.url());
    let answer = browser.get("/console/oidc/login").await;
    assert_refused(&answer, "away");
    assert_eq!(answer.status, 502);
    scene.stop().await;

    let scene = Scene::start_keyed("", INTEGRATIONS).await;
    let mut browser = Browser::at(&scene.url());
    for path in [
        "/console/oidc/login",
        "/console/oidc/callback?code=x&state=y",
    ] {
        let answer = browser.send(browser.request(Method::GET, path)).await;
        assert_refused(&answer, path);
        assert_eq!(answer.status, 404);
    }
    scene.stop().await;
}
