//! The request of a call: what is configured, changed by what the filter `request` gives.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, IntoHeaderName};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use serde_json::{Map, Value};
use url::Url;

use crate::channels::headers::is_of_the_connection;

/// Headers by which a caller proves who it is: a result document has no say in them.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "x-api-key"];

/// A request to be.
pub(super) struct Call {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Value,
}

impl Call {
    pub(super) fn new(method: Method, url: Url, headers: HeaderMap, body: Value) -> Self {
        Self {
            method,
            url,
            headers,
            body,
        }
    }

    /// Takes over what a filter gave: an object with any of `method`, `path`, `query`, `headers` (each in place of the one of its name)
    /// and `body`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as a clause that holds nothing of it.
    pub(super) fn change(&mut self, output: Value) -> Result<(), &'static str> {
        let Value::Object(parts) = output else {
            return Err("gave no object");
        };
        for (key, value) in parts {
            match (key.as_str(), value) {
                ("method", Value::String(name)) => self.method = method(&name)?,
                ("method", _) => return Err("gave a method that is not a text"),
                ("path", Value::String(path)) => self.path(&path)?,
                ("path", _) => return Err("gave a path that is not a text"),
                ("query", Value::Object(query)) => self.query(query)?,
                ("query", _) => return Err("gave a query that is not an object"),
                ("headers", Value::Object(headers)) => self.more_headers(headers)?,
                ("headers", _) => return Err("gave headers that are not an object"),
                ("body", body) => self.body = body,
                _ => return Err("gave a key other than method, path, query, headers and body"),
            }
        }
        Ok(())
    }

    /// Sets a header.
    pub(super) fn set(&mut self, name: impl IntoHeaderName, value: HeaderValue) {
        self.headers.insert(name, value);
    }

    /// Sets a header that nobody has set.
    pub(super) fn preset(&mut self, name: &'static str, value: Option<HeaderValue>) {
        if let Some(value) = value
            && !self.headers.contains_key(name)
        {
            self.headers.insert(name, value);
        }
    }

    /// The request. A GET has no body, and null is none; a text goes as it is where the `content-type` is not JSON.
    ///
    /// # Errors
    ///
    /// A sentence: the body does not fit its `content-type`.
    pub(super) fn request(&self) -> Result<Request<Bytes>, &'static str> {
        let mut headers = self.headers.clone();
        let json = headers.get(CONTENT_TYPE).is_none_or(is_json);
        let body = match &self.body {
            _ if self.method == Method::GET => None,
            Value::Null => None,
            Value::String(text) if !json => Some(Bytes::from(text.clone())),
            value if json => serde_json::to_vec(value).ok().map(Bytes::from),
            _ => {
                return Err(
                    "the body is not a text, and its content-type is not JSON: give one of them another form",
                );
            }
        };
        if body.is_some() && !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(self.url.as_str())
            .body(body.unwrap_or_default())
            .map_err(|_| "the address cannot be called")?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// A path below the same origin.
    fn path(&mut self, path: &str) -> Result<(), &'static str> {
        if !path.starts_with('/') || path.starts_with("//") || path.contains('\\') {
            return Err("gave a path that does not begin with one slash, or holds a backslash");
        }
        // A value of the document must not climb out of the path that it was put in, however often the receiver decodes it.
        let decoded = decoded(path);
        if decoded.iter().any(u8::is_ascii_control) {
            return Err("gave a path with a control character");
        }
        let slashes = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'/').count();
        if slashes(&decoded) > slashes(path.as_bytes()) || decoded.contains(&b'\\') {
            return Err("gave a path with an encoded slash or backslash");
        }
        // What follows a semicolon is a parameter of the segment to some.
        let name = |segment: &[u8]| {
            let end = segment.iter().position(|byte| *byte == b';');
            segment[..end.unwrap_or(segment.len())].to_vec()
        };
        let mut segments = decoded.split(|byte| *byte == b'/').map(name);
        if segments.any(|name| matches!(name.as_slice(), b"." | b"..")) {
            return Err("gave a path with a segment . or ..");
        }
        self.url.set_path(path);
        Ok(())
    }

    fn query(&mut self, query: Map<String, Value>) -> Result<(), &'static str> {
        const NOT_PLAIN: &str =
            "gave a query whose values are not all texts, numbers, truth values, or lists of them";
        self.url.set_query(None);
        for (name, value) in query {
            let values = match value {
                Value::Null => Vec::new(),
                Value::Array(values) => values,
                one => vec![one],
            };
            for value in values {
                let text = match value {
                    Value::String(text) => text,
                    Value::Number(_) | Value::Bool(_) => value.to_string(),
                    _ => return Err(NOT_PLAIN),
                };
                self.url.query_pairs_mut().append_pair(&name, &text);
            }
        }
        Ok(())
    }

    fn more_headers(&mut self, headers: Map<String, Value>) -> Result<(), &'static str> {
        for (name, value) in headers {
            let name = HeaderName::try_from(name)
                .map_err(|_| "gave a header with a name that no header has")?;
            if is_of_the_connection(name.as_str()) {
                return Err(
                    "gave a header that only the gateway sets, such as host or content-length",
                );
            }
            if CREDENTIALS.contains(&name.as_str()) {
                return Err(
                    "gave a header with credentials, which only `headers` and `oauth2` may hold",
                );
            }
            let Value::String(value) = value else {
                return Err("gave a header that is not a text");
            };
            let value = HeaderValue::try_from(value)
                .map_err(|_| "gave a header with a character that no header may hold")?;
            self.headers.insert(name, value);
        }
        Ok(())
    }
}

/// A text without percent-encoding (RFC 3986 section 2.1), also of what was encoded more than once.
fn decoded(text: &str) -> Vec<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|it| u8::try_from(it).ok())
    };
    let mut bytes: Vec<u8> = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        bytes.push(byte);
        // What one decoding makes may end another.
        while let [.., b'%', high, low] = bytes[..]
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            bytes.truncate(bytes.len() - 3);
            bytes.push(high << 4 | low);
        }
    }
    bytes
}

fn method(name: &str) -> Result<Method, &'static str> {
    [
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::GET,
    ]
    .into_iter()
    .find(|method| method.as_str() == name)
    .ok_or("gave a method other than POST, PUT, PATCH, DELETE and GET")
}

/// `application/json`, or a type that ends in `+json`.
fn is_json(content_type: &HeaderValue) -> bool {
    let text = content_type
        .to_str()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let essence = text.split(';').next().unwrap_or_default().trim();
    essence == "application/json" || essence.ends_with("+json")
}
