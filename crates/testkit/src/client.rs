//! A client of the HTTP face.

use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::Value;

/// A client with a key.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    key: String,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body.
    pub body: String,
}

impl Client {
    /// A client of the gateway at `url`.
    ///
    /// # Panics
    ///
    /// When the HTTP client cannot be made.
    #[must_use]
    pub fn new(url: &str, key: &str) -> Self {
        // An error says that it is there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(120))
            .build()
            .expect("an HTTP client");
        Self {
            http,
            url: url.to_owned(),
            key: key.to_owned(),
        }
    }

    /// A request to a path, with the key.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        if self.key.is_empty() {
            request
        } else {
            request.bearer_auth(&self.key)
        }
    }

    /// A POST to an integration.
    pub fn invocation(&self, integration: &str) -> RequestBuilder {
        self.request(
            Method::POST,
            &format!("/v1/integrations/{integration}/invocations"),
        )
    }

    /// Sends a text to an integration.
    ///
    /// # Panics
    ///
    /// When the gateway does not answer.
    pub async fn text(&self, integration: &str, text: &str) -> Answer {
        Answer::of(
            self.invocation(integration)
                .json(&serde_json::json!({ "text": text })),
        )
        .await
    }

    /// GET.
    ///
    /// # Panics
    ///
    /// When the gateway does not answer.
    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    /// POST without a body.
    ///
    /// # Panics
    ///
    /// When the gateway does not answer.
    pub async fn post(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::POST, path)).await
    }

    /// The result of a job, waited for: some minutes, on a machine that has much to do.
    ///
    /// # Panics
    ///
    /// When the gateway does not answer.
    pub async fn result(&self, job: &str) -> Answer {
        let path = format!("/v1/jobs/{job}/result");
        let mut waits = 5;
        loop {
            let request = self.request(Method::GET, &path);
            let answer = Answer::of(request.header("prefer", "wait=60")).await;
            waits -= 1;
            let is_early = answer.status == 409 && answer.code() == "not-ready";
            if !is_early || waits == 0 {
                return answer;
            }
        }
    }
}

impl Answer {
    /// Sends a request and reads the answer.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn of(request: RequestBuilder) -> Self {
        Self::try_of(request).await.expect("the gateway answers")
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    ///
    /// When there is none: the gateway is gone, or goes.
    pub async fn try_of(request: RequestBuilder) -> reqwest::Result<Self> {
        let response = request.send().await?;
        Ok(Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.text().await?,
        })
    }

    /// A header's text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.body))
    }

    /// The problem's code, where the answer is a problem document.
    #[must_use]
    pub fn code(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{}",
            self.body
        );
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The job's id, where the answer is a job.
    #[must_use]
    pub fn job(&self) -> String {
        assert_eq!(self.status, 202, "{}", self.body);
        self.json()["id"].as_str().unwrap_or_default().to_owned()
    }
}
