//! The sections of `linkspan.toml`, a line a key.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::deliver::Deliver;
use super::describe::{TABLE, section};
use super::name::{ClusterName, IntegrationName, ReplicationName, ServiceName};
use super::outside::{Grants, HttpUrl, Issuer, Mailboxes};
use super::secret::Secret;
use super::setting::Options;
use super::store::{BlobStore, JobStore};
use super::stream::{KafkaCluster, Replication, Source, Streams};
use super::units::Size;
use super::words::{Auth, Engine, LogFormat, Origin, Overflow, Pattern, SmtpTls};
use crate::Task;

section! {
    /// The whole gateway.
    pub(super) struct Sections {
        /// Where the gateway listens and whom it lets in.
        server: Server = TABLE;
        /// Where jobs, documents and results are kept, and for how long.
        store: Store = TABLE;
        /// The sandboxed worker processes in which engines read documents.
        worker: Worker = TABLE;
        /// The bounds of a request that no other section names.
        limits: Limits = TABLE;
        /// What the gateway may call.
        outbound: Outbound = TABLE;
        /// The web application for people, at `/`.
        console: Console = TABLE;
        /// The server by which emails leave.
        email: Option<Smtp>;
        /// The gateway's own Kinesis streams.
        streams: Streams = TABLE;
        /// The AI services, each declared once.
        service: BTreeMap<ServiceName, Service> = TABLE;
        /// The ways in which the estate uses the services.
        integration: BTreeMap<IntegrationName, Integration> = TABLE;
        /// The Kafka clusters.
        kafka: BTreeMap<ClusterName, KafkaCluster> = TABLE;
        /// The replications between clusters.
        replicate: BTreeMap<ReplicationName, Replication> = TABLE;
    }
}

section! {
    /// Where the gateway listens and whom it lets in. Any other address than a loopback one needs authentication, and TLS here or
    /// in a proxy before the gateway.
    pub struct Server {
        /// The address and port on which the gateway listens; port 0 takes a free one.
        listen: SocketAddr = "127.0.0.1:8080";
        /// TLS by the gateway itself.
        tls: Option<Tls>, like r#"{ cert = "tls/cert.pem", key = "tls/key.pem" }"#;
        /// Says that a proxy before the gateway does TLS, so that the gateway may listen beyond loopback without it.
        tls_terminated_by_proxy: bool = false;
        /// How callers prove who they are.
        auth: Auth = "keys";
        /// The gateway's own address as others reach it, for links; absent: `http://` or `https://` and `listen`.
        public_url: Option<HttpUrl>, like r#""https://linkspan.example.com""#;
        /// The web origins whose pages may call the gateway (CORS); empty: none.
        cors_origins: Vec<Origin> = [];
        /// How long running requests may take to end when the gateway stops.
        drain_timeout: Duration = "30s", in "0s" to "1h";
        /// How long a client may take to send a request's header.
        header_timeout: Duration = "30s", in "1s" to "10m";
        /// The longest pause in a request's body.
        body_idle_timeout: Duration = "30s", in "1s" to "10m";
        /// The longest that a request's body may take in all.
        body_timeout: Duration = "10m", in "1s" to "1d";
        /// The most connections at once; more wait to be accepted.
        max_connections: u32 = 1024, in 1 to 1000000;
        /// The largest header of a request.
        max_header_bytes: Size = "32 KiB", in "8 KiB" to "1 MiB";
        /// The largest body of a request; an integration may lower it.
        max_body: Size = "64 MiB", in "1 KiB" to "1 TiB";
        /// Requests a second for each key, over time; 0: no limit.
        rate_limit: u32 = 100, in 0 to 1000000;
        /// The most requests that a key may send at once before its rate limit holds.
        rate_burst: u32 = 200, in 1 to 1000000;
        /// The form of the log on standard error.
        log_format: LogFormat = "auto";
        /// Whether `/metrics` is served.
        metrics: bool = true;
    }
}

section! {
    /// TLS by the gateway itself.
    pub struct Tls {
        /// The certificate chain, PEM, the gateway's own certificate first.
        cert: PathBuf, like r#""tls/cert.pem""#;
        /// The certificate's private key, PEM.
        key: PathBuf, like r#""tls/key.pem""#;
        /// Certificates of the authorities that sign clients, PEM; given, a client must show a certificate that one of them signed.
        client_ca: Option<PathBuf>, like r#""tls/clients.pem""#;
        /// How often the files are looked at; changed ones are taken without a restart.
        reload_interval: Duration = "1m", in "1s" to "1d";
    }
}

section! {
    /// Where jobs, documents and results are kept, and for how long.
    pub struct Store {
        /// The database of jobs, keys and audit lines: a file for one gateway, or a PostgreSQL database for any number of them.
        jobs: JobStore = "sqlite:data/linkspan.db";
        /// The documents that are too large for the database: a folder for one gateway, or a bucket for any number of them.
        blobs: BlobStore = "file:data/blobs";
        /// How the bucket is reached, where `blobs` is one.
        s3: S3 = TABLE;
        /// The file with the key by which the secrets of API keys are hashed; made where it is not there. All gateways on one database
        /// need the same. Absent: beside the database's file, or `linkspan.key` in the configuration's folder.
        hash_key: Option<PathBuf>, like r#""linkspan.key""#;
        /// The most that the database may take; beyond it no job is accepted. Documents over 64 KiB lie beside it.
        max_size: Size = "20 GiB", in "1 MiB" to "1024 TiB";
        /// How long a gateway may give no sign of life before what it had under way, jobs and deliveries, is taken from it and begun again
        /// by another one on the same database.
        lease: Duration = "30s", in "1s" to "10m";
        /// How long a job's document and result are kept after its end; an integration may set its own.
        retention: Duration = "7d", in "1m" to "3650d";
        /// How long a job's row is kept after its result was erased; until then its result answers 410.
        row_retention: Duration = "30d", in "1m" to "3650d";
        /// How long audit lines are kept.
        audit_retention: Duration = "365d", in "1d" to "36500d";
        /// How long an idempotency key brings back its first result.
        idempotency_ttl: Duration = "24h", in "1m" to "365d";
    }
}

section! {
    /// How a bucket of documents is reached, on Amazon S3 or on a store that speaks its protocol.
    pub struct S3 {
        /// The store's address; absent: Amazon S3 in the region.
        endpoint: Option<HttpUrl>, like r#""https://minio.example.com:9000""#;
        /// The region; absent: `AWS_REGION` of the environment, or `us-east-1`.
        region: Option<String>, like r#""eu-central-1""#;
        /// The access key's id; absent: the environment's `AWS_…` variables, web identity, or the instance's metadata, as the AWS tools
        /// do.
        access_key_id: Option<Secret>, like r#""${env:S3_ACCESS_KEY_ID}""#;
        /// The access key's secret; given with `access_key_id` only.
        secret_access_key: Option<Secret>, like r#""${env:S3_SECRET_ACCESS_KEY}""#;
        /// Says that documents may go to the store unencrypted: for an `http` endpoint on a network that is trusted.
        allow_http: bool = false;
        /// Whether the bucket is named in the path (`https://HOST/BUCKET/…`), which every store understands, or in the host's name.
        path_style: bool = true;
        /// The folder for documents on their way in, and for copies of those that are worked on. It is emptied at the start.
        cache: PathBuf = "data/cache";
        /// The most that the copies may take; those that were not used for longest go first.
        cache_size: Size = "10 GiB", in "64 MiB" to "1024 TiB";
    }
}

section! {
    /// The sandboxed worker processes in which engines read documents.
    pub struct Worker {
        /// The most workers of one engine at once; absent: one for each processor.
        max_workers: Option<u32>, in 1 to 1024, like "4";
        /// The most memory that one worker may take.
        memory_limit: Size = "2 GiB", in "256 MiB" to "1 TiB";
        /// How long one piece of work may take; then its worker is killed.
        time_limit: Duration = "2m", in "100ms" to "1d";
        /// How many pieces of work a worker does before a fresh one takes its place.
        recycle_after: u32 = 200, in 1 to 1000000;
        /// How long a worker waits for work before it ends.
        idle_timeout: Duration = "1m", in "1s" to "1d";
        /// The largest answer that is taken from a worker.
        max_answer: Size = "32 MiB", in "1 KiB" to "1 GiB";
    }
}

section! {
    /// The bounds of a request that no other section names.
    pub struct Limits {
        /// The longest that a caller may hold a request open with `Prefer: wait`; a longer wait is cut to it.
        max_wait: Duration = "1m", in "0s" to "1h";
        /// The largest `claim` or `params` of a request.
        max_claim: Size = "64 KiB", in "1 KiB" to "16 MiB";
        /// The largest text that a request may hold as JSON or as a form's part; a longer one is sent as a document.
        max_text: Size = "4 MiB", in "1 KiB" to "1 GiB";
        /// The longest idempotency key, in bytes.
        max_idempotency_key: u32 = 255, in 16 to 4096;
        /// The most jobs on one page of a listing.
        max_page: u32 = 200, in 1 to 10000;
        /// The most event streams that are open at once; a tenth of them, at least 4, for any one caller.
        max_watchers: u32 = 1000, in 1 to 1000000;
    }
}

section! {
    /// What the gateway may call, mail servers too. Addresses of this machine and of private networks are refused, whatever name led to
    /// them.
    pub struct Outbound {
        /// The private networks whose addresses may be called all the same.
        private_networks: Vec<IpNet> = [];
        /// Certificates of authorities that are trusted besides the system's own, PEM.
        ca: Option<PathBuf>, like r#""tls/company-ca.pem""#;
        /// How long a connection may take to be made.
        connect_timeout: Duration = "10s", in "100ms" to "2m";
        /// The largest answer that is read; the rest of a larger one is not.
        max_answer: Size = "1 MiB", in "1 KiB" to "64 MiB";
    }
}

section! {
    /// The web application for people, at `/`. They sign in with a key, or through an identity provider.
    pub struct Console {
        /// Whether it is served.
        enabled: bool = true;
        /// How long a person stays signed in. A session that came from a key ends with the key.
        session_ttl: Duration = "12h", in "1m" to "30d";
        /// The identity provider through which people may sign in (OpenID Connect, code flow with PKCE). Register `/console/oidc/callback`
        /// under `server.public_url` there as the address to come back to.
        oidc: Option<Oidc>, like r#"{ issuer = "https://id.example.com", client_id = "linkspan", client_secret = "${env:OIDC_SECRET}", admin = ["ana@example.com"] }"#;
    }
}

section! {
    /// An identity provider (OpenID Connect Core 1.0), and what the people that it knows may do. Whom no rule names is not let in.
    pub struct Oidc {
        /// The provider's issuer identifier, exactly as the provider writes it; its `/.well-known/openid-configuration` is read.
        issuer: Issuer, like r#""https://id.example.com""#;
        /// The client's id, as it is registered with the provider.
        client_id: String, like r#""linkspan""#;
        /// The client's secret; absent: a public client.
        client_secret: Option<Secret>, like r#""${env:OIDC_SECRET}""#;
        /// The scopes that are asked of the provider besides `openid`.
        request_scopes: Vec<String> = ["email", "profile"];
        /// The claim of the ID token that names a person; their jobs belong to `oidc:` and this name. The first person who comes by a name
        /// (the first `sub` of the provider) keeps it.
        name_claim: String = "email";
        /// Whether an email address counts of which the provider does not say that it is confirmed (`email_verified`). Only for a provider
        /// that never says it, and where nobody can write another's address into their own profile.
        unverified_email: bool = false;
        /// Those who may do everything: their names, or `sub:` and the provider's `sub`, which is never given to another person.
        admin: Vec<String> = [];
        /// People who take over the name of somebody who was here before them, with all jobs: `sub:` and the provider's `sub`, which the page
        /// that refuses them says.
        successors: Vec<String> = [], like r#"["sub:248289761001"]"#;
        /// The claim of the ID token, a text or a list of texts, to whose values `scopes` gives scopes.
        scope_claim: Option<String>, like r#""groups""#;
        /// What whoever has a value of `scope_claim` may do: scopes as of keys, each for all integrations or for one.
        scopes: Option<Grants>, like r#"{ ai-admins = ["admin"], ai-users = ["invoke", "read:onboarding"] }"#;
    }
}

section! {
    /// The server by which emails leave (SMTP, RFC 5321).
    pub struct Smtp {
        /// The server's name and port.
        server: String, like r#""smtp.example.com:587""#;
        /// How the connection is encrypted. `none` is for a relay on this machine, whose address `outbound.private_networks` must hold.
        tls: SmtpTls = "starttls";
        /// The user to sign in as; absent: without signing in.
        username: Option<String>, like r#""linkspan""#;
        /// The user's password.
        password: Option<Secret>, like r#""${env:SMTP_PASSWORD}""#;
        /// The sender's address.
        from: Mailboxes, like r#""linkspan <linkspan@example.com>""#;
        /// The domains to which emails may go; empty: none.
        allowed_domains: Vec<String>, like r#"["example.com"]"#;
    }
}

section! {
    /// An AI service: a task, bound to an engine.
    pub struct Service {
        /// The kind of AI work.
        task: Task, like r#""sentiment""#;
        /// What performs it.
        engine: Engine = "builtin";
        /// The engine's options, which the engine checks.
        options: Options = TABLE;
    }
    later {
        fallback: "comes in a later release, with providers; remove it";
    }
}

section! {
    /// A named way to use one or more services.
    pub struct Integration {
        /// How the answer comes back. Changing it alone is enough: keys that the other pattern uses may stay.
        pattern: Pattern, like r#""sync""#;
        /// Where the records come from (`stream-in`, `full-stream`).
        source: Option<Source>, like r#"{ kinesis = "reviews" }"#;
        /// The services, in order. A service that takes a text takes that of the step before it which gives one, or else the
        /// request's own.
        steps: Vec<ServiceName>, like r#"["mood"]"#;
        /// How long a caller waits for the answer (`sync`).
        deadline: Duration = "30s", in "10ms" to "1h";
        /// What a caller gets when the deadline passes (`sync`).
        overflow: Overflow = "error";
        /// The largest body; absent: `server.max_body`.
        max_body: Option<Size>, in "1 KiB" to "1 TiB", like r#""20 MB""#;
        /// The most invocations that are worked on at once.
        concurrency: u32 = 16, in 1 to 10000;
        /// The most invocations that wait for their turn (`sync`); beyond it 503, at once.
        queue: u32 = 64, in 0 to 100000;
        /// The most jobs that wait for their turn (`async`); beyond it 503, at once.
        backlog: u32 = 100000, in 1 to 100000000;
        /// How often a job or a record is tried when its failure can pass (`async` and streams).
        attempts: u32 = 5, in 1 to 100;
        /// The wait between attempts (`async` and streams).
        backoff: Backoff = TABLE;
        /// How long one attempt of a job or a record may take, all its steps together (`async` and streams).
        attempt_time_limit: Duration = "10m", in "100ms" to "1d";
        /// How long a job's document and result are kept after its end; absent: `store.retention`.
        retention: Option<Duration>, in "1m" to "3650d", like r#""30d""#;
        /// The channels by which a job's result leaves; each gets it at least once.
        deliver: Vec<Deliver> = [], like r#"[{ webhook = "https://crm.example.com/hooks", secret = "${env:CRM_SECRET}" }]"#;
    }
}

section! {
    /// The wait between attempts: it doubles from the first to the longest, and a random part of it is left off.
    pub struct Backoff {
        /// The wait after the first attempt.
        first: Duration = "1s", in "1ms" to "1d";
        /// The longest wait.
        max: Duration = "5m", in "1ms" to "7d";
    }
}
