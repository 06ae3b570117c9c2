//! A server that speaks the protocol of Amazon S3, in this process: it checks signatures, takes uploads in parts and lists in pages.
//! Its objects are files.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;

/// The server. Its objects outlive its stops, and go with it.
pub struct S3Server {
    folder: TempDir,
    address: SocketAddr,
    running: Option<Running>,
}

struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl S3Server {
    /// The id of the access key that it knows.
    pub const ACCESS_KEY_ID: &str = "linkspan-tests";
    /// That key's secret.
    pub const SECRET_ACCESS_KEY: &str = "harbour-pilot-seven";

    /// Starts a server with one empty bucket, on a free port of loopback.
    ///
    /// # Panics
    ///
    /// When it cannot.
    #[must_use]
    pub fn start(bucket: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join(bucket)).expect("a folder for the bucket");
        let [port] = crate::ports::free();
        let mut server = Self {
            folder,
            address: (Ipv4Addr::LOCALHOST, port).into(),
            running: None,
        };
        server.start_again();
        server
    }

    /// Its address: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The configuration of a gateway that keeps its documents here; its environment needs `S3_KEY_ID` and `S3_SECRET`.
    #[must_use]
    pub fn toml(&self) -> String {
        format!(
            "[store.s3]\nendpoint = \"{}\"\nallow_http = true\naccess_key_id = \"${{env:S3_KEY_ID}}\"\n\
             secret_access_key = \"${{env:S3_SECRET}}\"\n",
            self.endpoint()
        )
    }

    /// The file of an object.
    #[must_use]
    pub fn file(&self, bucket: &str, key: &str) -> PathBuf {
        self.folder.path().join(bucket).join(key)
    }

    /// Stops it: connections are cut, and no more are taken.
    ///
    /// # Panics
    ///
    /// When the server had panicked.
    pub fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            let _ = running.stop.send(());
            running.thread.join().expect("the server ran");
        }
    }

    /// Starts it again after a stop, at the same address and with the same objects.
    ///
    /// # Panics
    ///
    /// When it cannot.
    pub fn start_again(&mut self) {
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let (folder, address) = (self.folder.path().to_owned(), self.address);
        let thread = std::thread::spawn(move || {
            // Dropping the runtime cuts every connection.
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let listener = listen(address);
                tell.send(listener.local_addr().expect("an address"))
                    .expect("someone waits");
                tokio::select! {
                    () = serve(listener, service(&folder)) => {}
                    _ = stopped => {}
                }
            });
        });
        self.address = told.recv().expect("the server starts");
        self.running = Some(Running { stop, thread });
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            let _ = running.stop.send(());
            let _ = running.thread.join();
        }
    }
}

/// Takes the same port again, also while connections of the last server linger.
fn listen(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("a socket's option");
    socket.bind(address).expect("the port is free");
    socket.listen(128).expect("the socket listens")
}

fn service(folder: &Path) -> S3Service {
    let files = FileSystem::new(folder).expect("a folder of objects");
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(
        S3Server::ACCESS_KEY_ID,
        S3Server::SECRET_ACCESS_KEY,
    ));
    builder.build()
}

async fn serve(listener: TcpListener, service: S3Service) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let service = service.clone();
        tokio::spawn(async move {
            let _ = Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
