//! The calls of Amazon's client, made by the gateway's one way out: every address is judged.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use bytes::Bytes;
use http::Request;

use crate::outbound::{CallError, Outbound};

/// Makes calls, and keeps why the last one failed: Amazon's client does not say so.
#[derive(Clone, Debug)]
pub(super) struct Carrier {
    outbound: Outbound,
    timeout: Duration,
    failed: Arc<Mutex<Option<CallError>>>,
}

impl Carrier {
    pub(super) fn new(outbound: Outbound, timeout: Duration) -> Self {
        Self {
            outbound,
            timeout,
            failed: Arc::default(),
        }
    }

    /// As the client wants it.
    pub(super) fn client(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(self.clone());
        http_client_fn(move |_, _| connector.clone())
    }

    /// Why the last call failed that did, once.
    pub(super) fn failed(&self) -> Option<CallError> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.take()
    }

    async fn carry(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let other = |error: &'static str| ConnectorError::other(error.into(), None);
        let Some(body) = request.body().bytes().map(Bytes::copy_from_slice) else {
            return Err(other("the request's body is not in memory"));
        };
        let mut carried = Request::builder()
            .method(request.method())
            .uri(request.uri());
        for (name, value) in request.headers().iter() {
            carried = carried.header(name, value);
        }
        let carried = carried
            .body(body)
            .map_err(|_| other("the request cannot be sent as it is"))?;
        let answer = match self.outbound.call(carried, self.timeout).await {
            Ok(answer) => answer,
            Err(error) => {
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                *failed = Some(error.clone());
                return Err(ConnectorError::io(error.into()));
            }
        };
        if answer.truncated {
            return Err(other("the answer is larger than outbound.max_answer"));
        }
        let status = answer.status.as_u16().try_into();
        let status = status.map_err(|_| other("the answer's status is none"))?;
        let mut response = HttpResponse::new(status, answer.body.to_vec().into());
        for (name, value) in &answer.headers {
            if let Ok(value) = value.to_str() {
                let (name, value) = (name.as_str().to_owned(), value.to_owned());
                response.headers_mut().append(name, value);
            }
        }
        Ok(response)
    }
}

impl HttpConnector for Carrier {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.clone().carry(request))
    }
}
