//! What is replicated, from where to where, and how.

use std::time::Duration;

use super::ReplicateError;
use crate::kafka::Cluster;

/// What is replicated, from where to where, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The replication's name. Its progress is the target's topic `linkspan.offsets.NAME`.
    pub name: String,
    /// Where records come from.
    pub source: Cluster,
    /// Where they go.
    pub target: Cluster,
    /// Names of topics with `*` and `?`. A name is taken when one of them fits, and none of those that begin with `!`.
    pub topics: Vec<String>,
    /// What the topics are called on the target.
    pub naming: Naming,
    /// How the copied records are compressed on the wire and on the target's disks.
    pub compression: Compression,
    /// How many copies the target keeps of a topic that is made there; none: the target's default.
    pub replication_factor: Option<i32>,
    /// A transaction is committed at the latest after this time, of at most five seconds. When nothing waits to be copied it is committed after [`Self::linger`].
    pub commit_every: Duration,
    /// How long a transaction waits for more when nothing waits to be copied.
    pub linger: Duration,
    /// How often new topics, new partitions and changed settings of topics are looked for.
    pub sync_every: Duration,
    /// How often the process that copies gives a sign of life to those that stand by: see [`State::Standby`](super::State::Standby).
    pub sign_every: Duration,
    /// Bytes that wait in memory on each side, in KiB.
    pub buffer_kib: u32,
}

/// What a topic is called on the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Naming {
    /// As on the source.
    Identity,
    /// With this before it.
    Prefix(String),
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// LZ4: fast.
    Lz4,
    /// Zstandard: small.
    Zstd,
}

/// Topics that begin so are the replications' own, or the brokers', and never copied.
const NEVER: &[&str] = &["__", "linkspan.offsets."];

impl Settings {
    /// Settings with the usual times and sizes.
    #[must_use]
    pub fn new(name: &str, source: Cluster, target: Cluster, topics: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            source,
            target,
            topics,
            naming: Naming::Identity,
            compression: Compression::None,
            replication_factor: None,
            commit_every: Duration::from_millis(500),
            linger: Duration::from_millis(20),
            sync_every: Duration::from_secs(30),
            sign_every: Duration::from_secs(5),
            buffer_kib: 32 * 1024,
        }
    }

    /// The target's topic with the progress.
    #[must_use]
    pub fn progress_topic(&self) -> String {
        format!("{PROGRESS}{}", self.name)
    }

    /// Whether a topic of the source is one to copy.
    #[must_use]
    pub fn takes(&self, topic: &str) -> bool {
        if NEVER.iter().any(|prefix| topic.starts_with(prefix)) {
            return false;
        }
        let fits = |pattern: &str| fits(pattern.as_bytes(), topic.as_bytes());
        let mut taken = false;
        for pattern in &self.topics {
            match pattern.strip_prefix('!') {
                Some(pattern) if fits(pattern) => return false,
                Some(_) => {}
                None => taken |= fits(pattern),
            }
        }
        taken
    }

    pub(super) fn transactional_id(&self) -> String {
        format!("linkspan.replicate.{}", self.name)
    }

    /// What can be judged without asking anybody.
    pub(super) fn check(&self) -> Result<(), ReplicateError> {
        let plain = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        let wrong = |what: String| Err(ReplicateError::settings(what));
        if self.name.is_empty() || self.name.len() > 200 || !plain(&self.name) {
            return wrong(
                "the name of a replication has 1 to 200 letters, digits, dots, underscores and hyphens: it is part of a topic's name"
                    .to_owned(),
            );
        }
        if let Naming::Prefix(prefix) = &self.naming
            && (prefix.is_empty() || !plain(prefix))
        {
            return wrong(
                "the prefix of a replication has letters, digits, dots, underscores and hyphens: it is part of topics' names"
                    .to_owned(),
            );
        }
        if self.commit_every > LONGEST {
            return wrong(format!(
                "the replication {} would keep a transaction open for {:?}: it must commit at least every {LONGEST:?}, so that those that stand by see that it lives",
                self.name, self.commit_every
            ));
        }
        if !self.topics.iter().any(|pattern| !pattern.starts_with('!')) {
            return wrong(format!(
                "the replication {} names no topic to copy",
                self.name
            ));
        }
        Ok(())
    }
}

/// What the names of all topics with progress begin with.
pub(super) const PROGRESS: &str = "linkspan.offsets.";

/// A transaction is filled for at most this long.
pub(super) const LONGEST: Duration = Duration::from_secs(5);

impl Naming {
    /// The name on the target.
    #[must_use]
    pub fn target(&self, topic: &str) -> String {
        match self {
            Self::Identity => topic.to_owned(),
            Self::Prefix(prefix) => format!("{prefix}{topic}"),
        }
    }
}

impl Compression {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// `*` is any number of characters, `?` is one.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut of) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < name.len() {
        match pattern.get(of) {
            Some(b'*') => {
                star = Some((of, at));
                of += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[at] => {
                of += 1;
                at += 1;
            }
            _ => match star {
                Some((begin, taken)) => {
                    star = Some((begin, taken + 1));
                    of = begin + 1;
                    at = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[of..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(topics: &[&str]) -> Settings {
        let cluster = || Cluster::new("127.0.0.1:1", None, None, Vec::new()).expect("a cluster");
        let topics = topics.iter().map(|topic| (*topic).to_owned());
        Settings::new("east", cluster(), cluster(), topics.collect())
    }

    #[test]
    fn patterns_choose_topics() {
        for (patterns, topic, taken) in [
            (&["orders"][..], "orders", true),
            (&["orders"], "orders.eu", false),
            (&["orders*"], "orders.eu", true),
            (&["*"], "anything", true),
            (&["*"], "__consumer_offsets", false),
            (&["*"], "linkspan.offsets.east", false),
            (&["a*c*e"], "abcde", true),
            (&["a*c*e"], "abcd", false),
            (&["a?c"], "abc", true),
            (&["a?c"], "ac", false),
            (&["*", "!*.tmp"], "orders.tmp", false),
            (&["!*.tmp", "*"], "orders", true),
            (&["*a*a*b"], "aaaaab", true),
        ] {
            assert_eq!(
                settings(patterns).takes(topic),
                taken,
                "{patterns:?} {topic}"
            );
        }
    }

    #[test]
    fn what_cannot_work_is_told_before_anybody_is_asked() {
        assert!(settings(&["orders"]).check().is_ok());
        assert!(settings(&["!orders"]).check().is_err());
        let mut named = settings(&["orders"]);
        named.name = "to the east".to_owned();
        assert!(named.check().is_err());
        let mut prefixed = settings(&["orders"]);
        prefixed.naming = Naming::Prefix("east/".to_owned());
        assert!(prefixed.check().is_err());
        let mut rare = settings(&["orders"]);
        rare.commit_every = LONGEST;
        assert!(rare.check().is_ok());
        rare.commit_every = Duration::from_secs(20);
        let why = rare.check().expect_err("it is refused").to_string();
        assert!(why.contains("at least every 5s"), "{why}");
    }
}
