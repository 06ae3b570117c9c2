//! The demo's mailbox: takes mail on loopback by the least of SMTP (RFC 5321) and keeps each message as a file. For the demo only.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The longest line, and the largest message, that it takes.
const LONGEST_LINE: u64 = 64 * 1024;
const LARGEST: usize = 16 * 1024 * 1024;

/// A message that came.
#[derive(Debug)]
pub(super) struct Received {
    /// The file that holds it (RFC 5322).
    pub(super) path: PathBuf,
    /// To whom it went.
    pub(super) to: Vec<String>,
}

/// Listens on a free port of 127.0.0.1 until the returned receiver is dropped; the messages are kept in `folder`.
pub(super) async fn start(folder: &Path) -> io::Result<(SocketAddr, UnboundedReceiver<Received>)> {
    std::fs::create_dir_all(folder)?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let (sender, receiver) = unbounded_channel();
    let folder: Arc<Path> = folder.into();
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = sender.closed() => return,
            };
            if let Ok((stream, _)) = accepted {
                let (folder, sender) = (folder.clone(), sender.clone());
                tokio::spawn(async move { converse(stream, &folder, &sender).await });
            }
        }
    });
    Ok((address, receiver))
}

/// One client, from the greeting to its goodbye.
async fn converse(
    stream: TcpStream,
    folder: &Path,
    sender: &UnboundedSender<Received>,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut to: Vec<String> = Vec::new();
    let mut from = false;
    say(&mut stream, "220 linkspan demo").await?;
    while let Some(line) = line(&mut stream).await? {
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        let verb: String = line.chars().take(4).collect();
        let reply = match verb.to_ascii_uppercase().as_str() {
            "EHLO" => "250-linkspan demo\r\n250 8BITMIME",
            "HELO" | "NOOP" => "250 Ok",
            "RSET" => {
                (from, to) = (false, Vec::new());
                "250 Ok"
            }
            "MAIL" => {
                (from, to) = (true, Vec::new());
                "250 Ok"
            }
            "RCPT" if from => {
                to.extend(bracketed(&line));
                "250 Ok"
            }
            "DATA" if !to.is_empty() => {
                say(&mut stream, "354 end with a dot on a line of its own").await?;
                match data(&mut stream).await? {
                    None => "552 the message is too large",
                    Some(message) => {
                        let path = folder.join(format!("{}.eml", uuid::Uuid::now_v7()));
                        tokio::fs::write(&path, message).await?;
                        let to = std::mem::take(&mut to);
                        from = false;
                        let _ = sender.send(Received { path, to });
                        "250 Ok: in the demo's mailbox"
                    }
                }
            }
            "QUIT" => {
                say(&mut stream, "221 goodbye").await?;
                return Ok(());
            }
            "RCPT" | "DATA" => "503 something has to come before",
            _ => "502 not known here",
        };
        say(&mut stream, reply).await?;
    }
    Ok(())
}

async fn say(stream: &mut BufReader<TcpStream>, reply: &str) -> io::Result<()> {
    stream.write_all(format!("{reply}\r\n").as_bytes()).await
}

/// One line with its ending; none at the end of the stream or where it is too long.
async fn line(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    stream
        .take(LONGEST_LINE)
        .read_until(b'\n', &mut line)
        .await?;
    Ok(line.ends_with(b"\n").then_some(line))
}

/// The message up to its dot, with the dots taken off that were put before others (section 4.5.2). None where it is too large: then
/// it is read all the same.
async fn data(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Vec<u8>>> {
    let mut message = Vec::new();
    let mut fits = true;
    while let Some(line) = line(stream).await? {
        if line == b".\r\n" {
            return Ok(fits.then_some(message));
        }
        fits = fits && message.len() + line.len() <= LARGEST;
        if fits {
            message.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// The address in a command's angle brackets.
fn bracketed(line: &str) -> Option<String> {
    let (_, rest) = line.split_once('<')?;
    let (address, _) = rest.split_once('>')?;
    Some(address.to_owned())
}

#[cfg(test)]
mod tests {
    use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};

    use super::*;

    #[tokio::test]
    async fn a_mail_lies_in_the_mailbox_as_it_was_sent() {
        let folder = tempfile::tempdir().unwrap();
        let (address, mut came) = start(&folder.path().join("mail")).await.unwrap();
        let message = Message::builder()
            .from("a@example.com".parse().unwrap())
            .to("Ann <ann@example.com>".parse().unwrap())
            .subject("Hello")
            .body(".\n..two dots\nQUIT\n".to_owned())
            .unwrap();
        let transport =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.ip().to_string())
                .port(address.port())
                .build();
        transport.send(message.clone()).await.unwrap();
        let received = came.recv().await.unwrap();
        assert_eq!(received.to, ["ann@example.com"]);
        // The end of a message is the end of a line.
        let sent = String::from_utf8(message.formatted()).unwrap();
        let kept = std::fs::read_to_string(received.path).unwrap();
        assert_eq!(kept.trim_end(), sent.trim_end());
    }
}
