//! What a browser does, as far as the console's door is concerned: it keeps cookies, says where a request comes from, and follows
//! no redirect by itself.

use std::collections::BTreeMap;

use linkspan_testkit::Answer;
use reqwest::Method;
use serde_json::{Value, json};

/// A browser at a gateway.
pub(crate) struct Browser {
    http: reqwest::Client,
    url: String,
    /// The cookies, by name.
    pub(crate) cookies: BTreeMap<String, String>,
    /// What the page shows with each change.
    pub(crate) csrf: Option<String>,
    /// The page that makes the requests, where it says so.
    pub(crate) origin: Option<String>,
    /// The host that it believes to speak to.
    pub(crate) host: Option<String>,
}

impl Browser {
    pub(crate) fn at(url: &str) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self {
            http,
            url: url.to_owned(),
            cookies: BTreeMap::new(),
            csrf: None,
            origin: None,
            host: None,
        }
    }

    /// The gateway has another address now; the cookies stay.
    pub(crate) fn moved_to(&mut self, url: &str) {
        self.url = url.to_owned();
    }

    /// A request with what the browser adds by itself.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if !self.cookies.is_empty() {
            let cookies: Vec<_> = self
                .cookies
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            request = request.header("cookie", cookies.join("; "));
        }
        for (name, value) in [
            ("x-csrf-token", &self.csrf),
            ("origin", &self.origin),
            ("host", &self.host),
        ] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        request
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        let request = self.request(Method::GET, path);
        self.send(request).await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &Value) -> Answer {
        let request = self.request(Method::POST, path).json(body);
        self.send(request).await
    }

    pub(crate) async fn delete(&mut self, path: &str) -> Answer {
        let request = self.request(Method::DELETE, path);
        self.send(request).await
    }

    /// Signs in with a key.
    pub(crate) async fn sign_in(&mut self, key: &str) -> Answer {
        let answer = self.post("/console/session", &json!({ "key": key })).await;
        if answer.status == 200 {
            self.csrf = answer.json()["csrf"].as_str().map(str::to_owned);
        }
        answer
    }

    /// Whether somebody is signed in.
    pub(crate) async fn is_signed_in(&mut self) -> bool {
        let session = self.get("/console/session").await;
        assert_eq!(session.status, 200, "{}", session.body);
        session.json()["signed_in"].as_bool().unwrap()
    }

    pub(crate) async fn send(&mut self, request: reqwest::RequestBuilder) -> Answer {
        let answer = Answer::of(request).await;
        for cookie in set_cookies(&answer) {
            let (pair, attributes) = cookie.split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if attributes.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }
}

/// The cookies that an answer sets, as they stand in it.
pub(crate) fn set_cookies(answer: &Answer) -> Vec<String> {
    answer
        .headers
        .get_all("set-cookie")
        .iter()
        .map(|value| value.to_str().unwrap().to_owned())
        .collect()
}
