//! Where the demo's results arrive: a webhook receiver and a mailbox, both in this process.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use linkspan_model::config::Reference;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::mpsc::UnboundedReceiver;

use super::{mailbox, webhook};
use crate::cli::Failure;

/// How long the deliveries may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// The receivers, with what the configuration refers to.
pub(super) struct Receivers {
    receiver: String,
    mailbox: String,
    secret: String,
    events: UnboundedReceiver<webhook::Received>,
    messages: UnboundedReceiver<mailbox::Received>,
}

impl Receivers {
    /// Starts both on free ports of this machine. Messages are kept in the folder's `mailbox`.
    pub(super) async fn start(folder: &Path) -> Result<Self, Failure> {
        let mut key = [0; 32];
        SystemRandom::new()
            .fill(&mut key)
            .map_err(|error| Failure::of(&error))?;
        let secret = format!("whsec_{}", STANDARD.encode(key));
        let failed = |error: std::io::Error| Failure::of(&error);
        let (receiver, events) = webhook::start(&secret).await.map_err(failed)?;
        let (mailbox, messages) = mailbox::start(&folder.join("mailbox"))
            .await
            .map_err(failed)?;
        Ok(Self {
            receiver: format!("http://{receiver}/results"),
            mailbox: mailbox.to_string(),
            secret,
            events,
            messages,
        })
    }

    /// What the demo's configuration refers to.
    pub(super) fn resolve(&self, reference: Reference<'_>) -> Result<String, String> {
        match reference {
            Reference::Env("DEMO_RECEIVER") => Ok(self.receiver.clone()),
            Reference::Env("DEMO_SECRET") => Ok(self.secret.clone()),
            Reference::Env("DEMO_MAILBOX") => Ok(self.mailbox.clone()),
            other => Err(format!("the demo refers to nothing called {other}")),
        }
    }

    /// Waits for a webhook and an email, and says what came. True where both did, and the webhook's signature is right.
    pub(super) async fn show(&mut self) -> bool {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        let message = tokio::time::timeout(PATIENCE, self.messages.recv()).await;
        let mut out = std::io::stdout();
        let mut right = true;
        match event {
            Ok(Some(event)) => {
                right &= event.signature.is_ok();
                let signature = event.signature.err().unwrap_or("valid");
                let _ = writeln!(
                    out,
                    "webhook received: {} {}, {} bytes, signature {signature}",
                    event.kind, event.id, event.bytes
                );
            }
            _ => {
                right = false;
                eprintln!("wrong: no webhook came within {PATIENCE:?}");
            }
        }
        match message {
            Ok(Some(message)) => {
                let _ = writeln!(
                    out,
                    "email received:   to {}, in {}",
                    message.to.join(", "),
                    message.path.display()
                );
            }
            _ => {
                right = false;
                eprintln!("wrong: no email came within {PATIENCE:?}");
            }
        }
        right
    }
}
