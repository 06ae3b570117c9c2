//! One conversation with the mail server (RFC 5321): connected to a checked address, encrypted before anything is said that matters,
//! signed in, then a message at a time.
//!
//! STARTTLS (RFC 3207) is done here, not by the library: what the server sent in plain text must not be taken for part of the
//! encrypted conversation.

use std::net::{IpAddr, SocketAddr};

use lettre::Message;
use lettre::address::Envelope;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::response::Response;
use linkspan_model::config::{Smtp, SmtpTls};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use url::Host;

use super::reply;
use super::wire::Wire;
use crate::outbound::{CallError, Outbound};

/// The longest line of a server's reply, and the most lines of one (RFC 5321 section 4.5.3.1.5 asks for 512 bytes).
const LONGEST_LINE: u64 = 4096;
const MOST_LINES: usize = 100;
/// Authentication lacks or failed (RFC 4954): 5xx, but the fault is the sign-in's and not the message's.
const SIGN_IN: [u16; 4] = [530, 534, 535, 538];

/// The mail server of a configuration.
pub(super) struct Server {
    host: String,
    port: u16,
    tls: SmtpTls,
    credentials: Option<Credentials>,
    outbound: Outbound,
}

/// Why a message did not leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The server will never take this message.
    pub(super) permanent: bool,
    /// The server's reply code.
    pub(super) status: Option<u16>,
    /// A sentence without addresses of persons and without secrets.
    pub(super) detail: String,
}

/// The server has taken a message.
pub(super) struct Receipt {
    pub(super) status: u16,
    /// What the server said, in short: often the message's id in its queue.
    pub(super) text: String,
    /// A sentence for each recipient that it refused, by place and domain.
    pub(super) refused: Vec<String>,
}

impl Server {
    /// Reads the settings; connects to nobody.
    ///
    /// # Errors
    ///
    /// Faults, each with its key of `[email]`.
    pub(super) fn new(
        settings: &Smtp,
        outbound: Outbound,
    ) -> Result<Self, Vec<(&'static str, String)>> {
        let mut faults = Vec::new();
        let (host, port) = host_and_port(&settings.server, settings.tls).unwrap_or_else(|| {
            let sentence = "is not a host, or host and port, such as smtp.example.com:587";
            faults.push(("server", sentence.to_owned()));
            Default::default()
        });
        if settings.tls == SmtpTls::None && faults.is_empty() && !is_loopback(&host) {
            let sentence =
                "\"none\" is only for a server on this machine; use \"starttls\" or \"implicit\"";
            faults.push(("tls", sentence.to_owned()));
        }
        if faults.is_empty()
            && let Err(sentence) = outbound.check_host(&host)
        {
            faults.push(("server", sentence));
        }
        let credentials = match (&settings.username, &settings.password) {
            (Some(user), Some(password)) => {
                Some(Credentials::new(user.clone(), password.reveal().to_owned()))
            }
            (None, None) => None,
            (Some(_), None) => {
                faults.push(("password", "is missing beside username".to_owned()));
                None
            }
            (None, Some(_)) => {
                faults.push(("username", "is missing beside password".to_owned()));
                None
            }
        };
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            host,
            port,
            tls: settings.tls,
            credentials,
            outbound,
        })
    }

    /// The server's name.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Connects, encrypts and signs in.
    pub(super) async fn connect(&self) -> Result<Conversation, Failure> {
        let mut stream = self.outbound.stream(&self.host, self.port).await?;
        let (peer, own) = addresses(&stream)?;
        let hello = match own {
            IpAddr::V4(address) => ClientId::Ipv4(address),
            IpAddr::V6(address) => ClientId::Ipv6(address),
        };
        let connection = match self.tls {
            SmtpTls::None => {
                AsyncSmtpConnection::connect_with_transport(
                    Box::new(Wire::new(stream, peer)),
                    &hello,
                )
                .await
            }
            SmtpTls::Implicit => {
                let stream = self.outbound.encrypt(&self.host, stream).await?;
                AsyncSmtpConnection::connect_with_transport(
                    Box::new(Wire::new(stream, peer)),
                    &hello,
                )
                .await
            }
            SmtpTls::Starttls => {
                stream = self.starttls(stream, &hello).await?;
                let stream = self.outbound.encrypt(&self.host, stream).await?;
                // The server has greeted already; it says nothing after STARTTLS until it is spoken to.
                let wire = Wire::greeted(stream, peer);
                AsyncSmtpConnection::connect_with_transport(Box::new(wire), &hello).await
            }
        };
        let mut connection = connection.map_err(|error| self.refused(&error, "the greeting"))?;
        if let Some(credentials) = &self.credentials {
            let mechanisms = [Mechanism::Plain, Mechanism::Login];
            connection
                .auth(&mechanisms, credentials)
                .await
                .map_err(|error| {
                    let status = error.status().map(u16::from);
                    // What the server says here may repeat what it was told.
                    let detail = if status.is_some() {
                        format!(
                            "{} refused the sign-in; check email.username and email.password",
                            self.host
                        )
                    } else {
                        format!(
                            "{} offers no sign-in with a password, or broke off",
                            self.host
                        )
                    };
                    Failure::passing(status, detail)
                })?;
        }
        Ok(Conversation {
            connection,
            host: self.host.clone(),
        })
    }

    /// The plain part of the conversation, up to the server's word that TLS may start.
    async fn starttls(&self, stream: TcpStream, hello: &ClientId) -> Result<TcpStream, Failure> {
        let mut stream = BufReader::new(stream);
        self.expect(&mut stream, 220, "the greeting").await?;
        self.say(&mut stream, &format!("EHLO {hello}\r\n")).await?;
        let offers = self.expect(&mut stream, 250, "EHLO").await?;
        if !offers
            .iter()
            .any(|offer| offer.trim().eq_ignore_ascii_case("STARTTLS"))
        {
            let detail = format!(
                "{} offers no STARTTLS, so nothing was sent; where it speaks TLS from the first byte, set email.tls = \"implicit\"",
                self.host
            );
            return Err(Failure::passing(None, detail));
        }
        self.say(&mut stream, "STARTTLS\r\n").await?;
        self.expect(&mut stream, 220, "STARTTLS").await?;
        if !stream.buffer().is_empty() {
            let detail = format!(
                "{} went on in plain text after STARTTLS; nothing was sent",
                self.host
            );
            return Err(Failure::passing(None, detail));
        }
        Ok(stream.into_inner())
    }

    async fn say(&self, stream: &mut BufReader<TcpStream>, line: &str) -> Result<(), Failure> {
        stream
            .write_all(line.as_bytes())
            .await
            .map_err(|_| self.broke_off())
    }

    /// Reads one reply and gives its lines without the code.
    async fn expect(
        &self,
        stream: &mut BufReader<TcpStream>,
        code: u16,
        what: &str,
    ) -> Result<Vec<String>, Failure> {
        let mut lines = Vec::new();
        while lines.len() < MOST_LINES {
            let mut bytes = Vec::new();
            (&mut *stream)
                .take(LONGEST_LINE)
                .read_until(b'\n', &mut bytes)
                .await
                .map_err(|_| self.broke_off())?;
            let line = String::from_utf8_lossy(&bytes);
            let Some((status, more, text)) = line.strip_suffix('\n').and_then(reply::line) else {
                return Err(self.broke_off());
            };
            lines.push(text.to_owned());
            if !more && status == code {
                return Ok(lines);
            }
            if !more {
                let said = reply::short(&lines.join(" "), &[]);
                let detail = format!("{} answered {status} to {what}: {said}", self.host);
                return Err(Failure::passing(Some(status), detail));
            }
        }
        Err(self.broke_off())
    }

    fn broke_off(&self) -> Failure {
        let detail = format!(
            "{} broke off, or does not speak SMTP on port {}",
            self.host, self.port
        );
        Failure::passing(None, detail)
    }

    fn refused(&self, error: &lettre::transport::smtp::Error, what: &str) -> Failure {
        match error.status() {
            Some(code) => {
                let status = u16::from(code);
                Failure::passing(
                    Some(status),
                    format!("{} answered {status} to {what}", self.host),
                )
            }
            None => self.broke_off(),
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the credentials.
        f.debug_struct("Server")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// An open conversation.
pub(super) struct Conversation {
    connection: AsyncSmtpConnection,
    host: String,
}

impl Conversation {
    /// Hands over one message for all recipients that the server takes; one of them is enough. After a failure the conversation is
    /// over.
    pub(super) async fn send(&mut self, message: &Message) -> Result<Receipt, Failure> {
        let (envelope, content) = (message.envelope(), message.formatted());
        let names: Vec<&str> = envelope.to().iter().map(lettre::Address::user).collect();
        let parameters = self.parameters(envelope, &content)?;
        let mail = Mail::new(envelope.from().cloned(), parameters);
        let answer = self.connection.command(mail).await;
        answer.map_err(|error| self.failure(&error, &names))?;
        let mut failures = Vec::new();
        let mut refused = Vec::new();
        for (nth, to) in envelope.to().iter().enumerate() {
            let rcpt = Rcpt::new(to.clone(), Vec::new());
            let Err(error) = self.connection.command(rcpt).await else {
                continue;
            };
            let failure = self.failure(&error, &names);
            // 421: the server ends the conversation.
            if failure.status.is_none_or(|status| status == 421) {
                return Err(failure);
            }
            let (nth, domain) = (nth + 1, to.domain());
            refused.push(format!("recipient {nth} (…@{domain}): {}", failure.detail));
            failures.push(failure);
        }
        if failures.len() == envelope.to().len() {
            // What may pass is tried again.
            let passing = failures.iter().position(|failure| !failure.permanent);
            let nobody = || self.broke_off();
            return Err(failures
                .into_iter()
                .nth(passing.unwrap_or_default())
                .unwrap_or_else(nobody));
        }
        let answer = self.connection.command(Data).await;
        answer.map_err(|error| self.failure(&error, &names))?;
        match self.connection.message(&content).await {
            Ok(response) => Ok(Receipt {
                status: u16::from(response.code()),
                text: reply::short(&words(&response), &[]),
                refused,
            }),
            Err(error) => Err(self.failure(&error, &names)),
        }
    }

    /// What MAIL has to say of a message (RFC 6152, RFC 6531).
    fn parameters(
        &self,
        envelope: &Envelope,
        content: &[u8],
    ) -> Result<Vec<MailParameter>, Failure> {
        let server = self.connection.server_info();
        let mut addresses = envelope.to().iter().chain(envelope.from());
        let needed = [
            (
                !addresses.all(|address| AsRef::<str>::as_ref(address).is_ascii()),
                Extension::SmtpUtfEight,
                MailParameter::SmtpUtfEight,
                "addresses",
            ),
            (
                !content.is_ascii(),
                Extension::EightBitMime,
                MailParameter::Body(MailBodyParameter::EightBitMime),
                "messages",
            ),
        ];
        let mut parameters = Vec::new();
        for (is_needed, extension, parameter, what) in needed {
            if is_needed && !server.supports_feature(extension) {
                return Err(Failure {
                    permanent: true,
                    status: None,
                    detail: format!("{} cannot take {what} that are not ASCII", self.host),
                });
            }
            parameters.extend(is_needed.then_some(parameter));
        }
        Ok(parameters)
    }

    fn broke_off(&self) -> Failure {
        let detail = format!("{} broke off before it took the message", self.host);
        Failure::passing(None, detail)
    }

    /// Says goodbye without making anybody wait for the answer.
    pub(super) fn end(mut self) {
        tokio::spawn(async move {
            let patience = std::time::Duration::from_secs(5);
            let _ = tokio::time::timeout(patience, self.connection.quit()).await;
        });
    }

    fn failure(&self, error: &lettre::transport::smtp::Error, names: &[&str]) -> Failure {
        let Some(status) = error.status().map(u16::from) else {
            return self.broke_off();
        };
        let said = std::error::Error::source(error)
            .map(ToString::to_string)
            .unwrap_or_default();
        Failure {
            permanent: error.is_permanent() && !SIGN_IN.contains(&status),
            status: Some(status),
            detail: format!(
                "{} answered {status}: {}",
                self.host,
                reply::short(&said, names)
            ),
        }
    }
}

impl Failure {
    fn passing(status: Option<u16>, detail: String) -> Self {
        Self {
            permanent: false,
            status,
            detail,
        }
    }
}

impl From<CallError> for Failure {
    /// What cannot pass by itself is a fault of the configuration: a dead letter, to be replayed when it is mended.
    fn from(error: CallError) -> Self {
        Self {
            permanent: !error.may_pass(),
            status: None,
            detail: error.to_string(),
        }
    }
}

fn addresses(stream: &TcpStream) -> Result<(SocketAddr, IpAddr), Failure> {
    match (stream.peer_addr(), stream.local_addr()) {
        (Ok(peer), Ok(own)) => Ok((peer, own.ip().to_canonical())),
        _ => Err(Failure::passing(
            None,
            "the mail server broke off".to_owned(),
        )),
    }
}

fn words(response: &Response) -> String {
    response.message().collect::<Vec<_>>().join(" ")
}

/// Host and port of a server; the port's default follows from the encryption (RFC 6409, RFC 8314).
fn host_and_port(server: &str, tls: SmtpTls) -> Option<(String, u16)> {
    let default = match tls {
        SmtpTls::Starttls => 587,
        SmtpTls::Implicit => 465,
        SmtpTls::None => 25,
    };
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, port.parse().ok()?)
        }
        _ => (server, default),
    };
    match Host::parse(host).ok()? {
        Host::Domain(name) => Some((name, port)),
        Host::Ipv4(address) => Some((address.to_string(), port)),
        Host::Ipv6(address) => Some((address.to_string(), port)),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_with_or_without_a_port() {
        for (text, expected) in [
            ("smtp.example.com", Some(("smtp.example.com", 587))),
            ("SMTP.example.com:2525", Some(("smtp.example.com", 2525))),
            ("192.0.2.7:25", Some(("192.0.2.7", 25))),
            ("[2001:db8::1]:465", Some(("2001:db8::1", 465))),
            ("[::1]", Some(("::1", 587))),
            ("smtp.example.com:port", None),
            ("smtp://example.com", None),
            ("user@example.com:25", None),
            ("", None),
        ] {
            let found = host_and_port(text, SmtpTls::Starttls);
            let found = found.as_ref().map(|(host, port)| (host.as_str(), *port));
            assert_eq!(found, expected, "{text}");
        }
    }
}
