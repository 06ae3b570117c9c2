//! A running gateway, by its API: where it is, with which key, and what it answers.

use std::path::Path;
use std::time::Duration;

use linkspan_model::Problem;
use reqwest::{Certificate, Method, RequestBuilder, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Done, Failure, SOME_FAILED, runtime};

/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The arguments that say which gateway is meant.
#[derive(Debug, clap::Args)]
pub(super) struct Remote {
    /// The gateway's address.
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        env = "LINKSPAN_URL",
        global = true
    )]
    url: String,
    /// The API key. On the command line every user of this machine can see it: set LINKSPAN_KEY instead.
    #[arg(
        long,
        value_name = "KEY",
        env = "LINKSPAN_KEY",
        hide_env_values = true,
        global = true
    )]
    key: Option<String>,
    /// A file of certificates of authorities that are trusted besides the system's own, PEM.
    #[arg(long, value_name = "FILE", env = "LINKSPAN_CA", global = true)]
    ca: Option<std::path::PathBuf>,
}

/// A gateway to call.
pub(super) struct Gateway {
    client: reqwest::Client,
    url: Url,
    key: Option<String>,
}

/// Why a call brought nothing.
pub(super) enum Refused {
    /// There was no answer, or the gateway refuses this caller altogether: the next call will fare no better.
    Altogether(Failure),
    /// The gateway refused this one thing.
    This(String),
}

impl Remote {
    /// Does something with the gateway.
    pub(super) fn run(self, work: impl AsyncFnOnce(Gateway) -> Done) -> Done {
        let gateway = self.connect()?;
        runtime()?.block_on(work(gateway))
    }

    fn connect(self) -> Result<Gateway, Failure> {
        let url = Url::parse(&self.url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                Failure::usage("--url (or LINKSPAN_URL) is not an address such as https://linkspan.example.com")
            })?;
        let here = match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        if self.key.is_some() && url.scheme() == "http" && !here {
            return Err(Failure::usage(
                "the key would go over the network unencrypted: use an https address, or a tunnel to this machine",
            ));
        }
        let mut client = reqwest::Client::builder()
            .no_proxy()
            // A key goes to the gateway that was named, and to nobody whom that one names.
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .connect_timeout(Duration::from_secs(10))
            .user_agent(concat!("linkspan/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &self.ca {
            for certificate in certificates(path)? {
                client = client.add_root_certificate(certificate);
            }
        }
        let client = client.build().map_err(|error| Failure::of(&error))?;
        Ok(Gateway {
            client,
            url,
            // A variable that is there and empty is none.
            key: self.key.filter(|key| !key.is_empty()),
        })
    }
}

impl Gateway {
    /// GET.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, Option<String>)],
    ) -> Result<T, Refused> {
        self.call(Method::GET, path, query, None).await
    }

    /// A listing (`/v1/jobs`), page after page, up to `limit` things.
    pub(super) async fn pages(
        &self,
        things: &str,
        filters: &[(&str, Option<String>)],
        limit: u32,
    ) -> Result<Vec<Value>, Refused> {
        let (mut found, mut after) = (Vec::new(), None);
        while found.len() < limit as usize {
            let left = limit as usize - found.len();
            let mut query = filters.to_vec();
            query.push(("limit", Some(left.to_string())));
            query.push(("after", after));
            let mut page: Value = self.get(&["v1", things], &query).await?;
            if let Value::Array(items) = page[things].take() {
                found.extend(items);
            }
            after = page["next"].as_str().map(str::to_owned);
            if after.is_none() {
                break;
            }
        }
        Ok(found)
    }

    /// POST, with a body where there is one.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<T, Refused> {
        self.call(Method::POST, path, &[], body).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, Option<String>)],
        body: Option<&Value>,
    ) -> Result<T, Refused> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            // Each is one segment, whatever stands in it.
            segments.pop_if_empty().extend(path);
        }
        for (name, value) in query {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        let mut request: RequestBuilder = self.client.request(method, url);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let unanswered = |error: reqwest::Error| {
            let error = error.without_url();
            Refused::Altogether(Failure::work(format!(
                "the gateway at {} does not answer ({}); --url or LINKSPAN_URL names another",
                self.url.origin().ascii_serialization(),
                crate::logging::chain(&error)
            )))
        };
        let response = request.send().await.map_err(unanswered)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(unanswered)?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|_| strange(status.as_u16()));
        }
        let problem: Problem =
            serde_json::from_slice(&bytes).map_err(|_| strange(status.as_u16()))?;
        let sentence = match status.as_u16() {
            401 if self.key.is_none() => {
                "the gateway wants a key: set LINKSPAN_KEY or --key (linkspan keys add NAME --scope read makes one)".to_owned()
            }
            _ => problem.detail,
        };
        Err(match status.as_u16() {
            400 | 401 => Refused::Altogether(Failure::usage(sentence)),
            403 | 429 | 500.. => Refused::Altogether(Failure::work(sentence)),
            _ => Refused::This(sentence),
        })
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Altogether(failure) => failure,
            Refused::This(sentence) => Self::work(sentence),
        }
    }
}

/// Does one thing after another; says on standard error which of them the gateway refused. Gives what was done, and the exit code.
pub(super) async fn each<T>(
    ids: &[String],
    work: impl AsyncFn(String) -> Result<T, Refused>,
) -> Result<(Vec<T>, u8), Failure> {
    let (mut done, mut code) = (Vec::new(), super::DONE);
    for id in ids {
        match work(id.clone()).await {
            Ok(one) => done.push(one),
            Err(Refused::This(sentence)) => {
                eprintln!("linkspan: {id}: {sentence}");
                code = SOME_FAILED;
            }
            Err(Refused::Altogether(failure)) => return Err(failure),
        }
    }
    Ok((done, code))
}

/// A time of an answer, for people.
pub(super) fn time(value: &Value) -> String {
    value
        .as_str()
        .and_then(|text| text.parse::<jiff::Timestamp>().ok())
        .map(|time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
        .unwrap_or_default()
}

/// A text of an answer, without what would do something to the terminal that shows it.
pub(super) fn text(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    text.chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect()
}

fn strange(status: u16) -> Refused {
    Refused::Altogether(Failure::work(format!(
        "what answered (status {status}) is not a gateway of linkspan; --url or LINKSPAN_URL names another"
    )))
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, Failure> {
    let unusable = |why: String| Failure::usage(format!("--ca {}: {why}", path.display()));
    let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    Certificate::from_pem_bundle(&pem).map_err(|error| unusable(crate::logging::chain(&error)))
}
