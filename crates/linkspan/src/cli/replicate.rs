//! `linkspan replicate`: the replications of a configuration, asked of the clusters themselves: the gateway need not run.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use linkspan_streams::kafka::ErrorKind;
use linkspan_streams::replicate::{
    self, Difference, Direction, Outcome, ReplicateError, Seen, Settings, TopicState, TopicStatus,
    Translated, Verified,
};
use serde::Serialize;

use super::output::{self, Output, Row};
use super::{DONE, Done, Failure, SOME_FAILED};
use crate::{configuration, replication};

/// The arguments of `linkspan replicate`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The form of the output.
    #[arg(long, value_enum, default_value = "table", global = true)]
    output: Output,
    #[command(subcommand)]
    verb: Verb,
}

/// The verbs of `linkspan replicate`.
#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Say how far each topic is copied. Exit code 1 where one cannot be copied any further.
    #[command(
        after_help = "Examples:\n  linkspan replicate status\n  linkspan replicate status estate --output json\n\nA record that the target \
                      refuses is known to the gateway that copies only: see its log, or GET /v1/replications."
    )]
    Status {
        /// The replications; absent: all.
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Translate what a consumer group has committed into offsets of the other cluster, exactly. Exit code 1 where the group has read
    /// what is not copied yet.
    #[command(
        after_help = "Examples:\n  linkspan replicate translate estate --group billing\n  linkspan replicate translate estate --group billing --apply\n  \
                      linkspan replicate translate estate --group billing --to-source --apply\n\nStop the group's consumers first, on both sides. What a gateway has done out of order moves with its group."
    )]
    Translate {
        /// The replication.
        name: String,
        /// The consumer group.
        #[arg(long)]
        group: String,
        /// Commit the offsets for the group on the cluster that it moves to.
        #[arg(long)]
        apply: bool,
        /// Translate from the target to the source: the group moves back.
        #[arg(long)]
        to_source: bool,
    },
    /// Compare both sides: counts and checksums of every partition, range by range. Exit code 1 where they differ.
    #[command(
        after_help = "Examples:\n  linkspan replicate verify estate\n  linkspan replicate verify estate --topic contracts.in --output csv\n\nWhat lies before the first record that both \
                      sides still have is left out. On compacted topics each side cleans by its own time: there a record that one side lacks is counted as cleaned."
    )]
    Verify {
        /// The replication.
        name: String,
        /// Only these topics of the source; may be given several times.
        #[arg(long = "topic", value_name = "TOPIC")]
        topics: Vec<String>,
        /// How many source offsets a range has.
        #[arg(long, value_name = "OFFSETS", default_value_t = 100_000, value_parser = clap::value_parser!(i64).range(1..))]
        range: i64,
    },
    /// Forget what was copied of a topic, so that it is copied from its beginning again. What stands in the target stays there.
    #[command(
        after_help = "Example:\n  linkspan replicate reset estate --topic contracts.in --yes\n\nA gateway that replicates begins the topic anew by itself, within seconds."
    )]
    Reset {
        /// The replication.
        name: String,
        /// The topic, by its name on the source.
        #[arg(long)]
        topic: String,
        /// Do it: the target will hold the topic's records twice, unless its topic is deleted first.
        #[arg(long)]
        yes: bool,
    },
}

pub(super) fn run(path: &Path, args: Args) -> Done {
    let config = super::load(path)?;
    let folder = configuration::folder(path);
    let mut all = BTreeMap::new();
    for (name, given) in &config.replications {
        let settings = replication::settings(name.as_str(), given, &config, &folder)
            .map_err(|error| Failure::usage(error.to_string()))?;
        all.insert(name.to_string(), settings);
    }
    let of = |name: &String| {
        all.get(name).ok_or_else(|| {
            let known: Vec<_> = all.keys().map(String::as_str).collect();
            Failure::usage(match known.as_slice() {
                [] => format!("{} has no [replicate.NAME]", path.display()),
                known => format!(
                    "there is no [replicate.{name}]; there is {}",
                    known.join(", ")
                ),
            })
        })
    };
    let output = args.output;
    match args.verb {
        Verb::Status { names } if names.is_empty() => {
            let all: Vec<_> = all.values().collect();
            status(output, &all)
        }
        Verb::Status { names } => {
            let named = names.iter().map(of).collect::<Result<Vec<_>, _>>()?;
            status(output, &named)
        }
        Verb::Translate {
            name,
            group,
            apply,
            to_source,
        } => {
            let direction = match to_source {
                true => Direction::ToSource,
                false => Direction::ToTarget,
            };
            translate(output, of(&name)?, &group, direction, apply)
        }
        Verb::Verify {
            name,
            topics,
            range,
        } => verify(output, of(&name)?, &topics, range),
        Verb::Reset { name, topic, yes } => {
            let settings = of(&name)?;
            if !yes {
                return Err(Failure::usage(format!(
                    "this copies {topic} from its beginning again, and {} on the target keeps what it has: delete it there first if nobody \
                     needs it, then give --yes",
                    settings.naming.target(&topic)
                )));
            }
            replicate::reset(settings, &topic).map_err(failed)?;
            eprintln!("{topic} is copied from its beginning, at once where {name} runs");
            Ok(DONE)
        }
    }
}

/// A topic of a replication.
#[derive(Serialize)]
struct Topic {
    replication: String,
    #[serde(flatten)]
    view: crate::http::replications::ReplicatedTopic,
}

impl Row for Topic {
    const COLUMNS: &'static [&'static str] = &[
        "replication",
        "source",
        "target",
        "state",
        "partitions",
        "done",
        "lag",
        "reason",
    ];

    fn cells(&self) -> Vec<String> {
        let view = &self.view;
        let done = view.partitions.iter().filter_map(|one| one.done);
        vec![
            self.replication.clone(),
            view.source.clone(),
            view.target.clone(),
            view.state.to_owned(),
            view.partitions.len().to_string(),
            done.sum::<i64>().to_string(),
            view.lag.map(|lag| lag.to_string()).unwrap_or_default(),
            view.reason.clone().unwrap_or_default(),
        ]
    }
}

fn status(output: Output, all: &[&Settings]) -> Done {
    let mut code = DONE;
    let mut rows = Vec::new();
    for settings in all {
        match replicate::look(settings) {
            Ok(status) => {
                let stopped = |topic: &TopicStatus| matches!(topic.state, TopicState::Stopped(_));
                if status.topics.iter().any(stopped) {
                    code = SOME_FAILED;
                }
                rows.extend(status.topics.into_iter().map(|topic| Topic {
                    replication: settings.name.clone(),
                    view: topic.into(),
                }));
            }
            Err(error) if error.kind == ErrorKind::Absent => eprintln!("linkspan: {error}"),
            Err(error) => {
                eprintln!("linkspan: {}: {error}", settings.name);
                code = SOME_FAILED;
            }
        }
    }
    output::list(output, &rows, "replicated topics")?;
    Ok(code)
}

/// What a group has committed, on both sides.
#[derive(Serialize)]
#[serde(transparent)]
struct Offset(Translated);

impl Row for Offset {
    const COLUMNS: &'static [&'static str] = &[
        "source",
        "target",
        "partition",
        "committed",
        "translated",
        "beyond",
    ];

    fn cells(&self) -> Vec<String> {
        let Self(translated) = self;
        let beyond = translated.beyond.iter();
        vec![
            translated.source.clone(),
            translated.target.clone(),
            translated.partition.to_string(),
            translated.committed.to_string(),
            match translated.outcome {
                Outcome::Offset(offset) => offset.to_string(),
                Outcome::NotCopied { done } => format!("not copied beyond {done}"),
            },
            beyond
                .map(|(first, last)| format!("{first}-{last}"))
                .collect::<Vec<_>>()
                .join(" "),
        ]
    }
}

fn translate(
    output: Output,
    settings: &Settings,
    group: &str,
    direction: Direction,
    apply: bool,
) -> Done {
    let translated = replicate::translate(settings, group, direction).map_err(failed)?;
    let missing = |one: &Translated| matches!(one.outcome, Outcome::NotCopied { .. });
    let ahead = translated.iter().any(missing);
    if apply {
        // Refused as a whole where one offset is not copied.
        replicate::apply(settings, group, direction, &translated).map_err(failed)?;
    }
    let rows: Vec<_> = translated.into_iter().map(Offset).collect();
    output::list(output, &rows, "offsets of the group on replicated topics")?;
    if apply {
        eprintln!("committed for the group {group}");
    }
    Ok(if ahead { SOME_FAILED } else { DONE })
}

/// A partition that was compared.
#[derive(Serialize)]
#[serde(transparent)]
struct Compared(Verified);

impl Row for Compared {
    const COLUMNS: &'static [&'static str] = &[
        "source",
        "target",
        "partition",
        "ranges",
        "source_records",
        "target_records",
        "cleaned",
        "foreign",
        "difference",
    ];

    fn cells(&self) -> Vec<String> {
        let Self(verified) = self;
        let ranges = &verified.ranges;
        let sum = |of: fn(&replicate::Range) -> u64| ranges.iter().map(of).sum::<u64>().to_string();
        let differs = verified.first_difference().map(|range| {
            let what = match range.difference {
                Some(Difference::Content { source, target }) => {
                    format!("source offset {source} and target offset {target} differ")
                }
                Some(Difference::Missing { source }) => {
                    format!("the target lacks source offset {source}")
                }
                Some(Difference::Extra { target }) => {
                    format!("the source lacks target offset {target}")
                }
                None => String::new(),
            };
            format!("{}-{}: {what}", range.from, range.to - 1)
        });
        vec![
            verified.source.clone(),
            verified.target.clone(),
            verified.partition.to_string(),
            ranges.len().to_string(),
            sum(|range| range.source_records),
            sum(|range| range.target_records),
            sum(|range| range.cleaned),
            verified.foreign.to_string(),
            differs.unwrap_or_else(|| "none".to_owned()),
        ]
    }
}

fn verify(output: Output, settings: &Settings, topics: &[String], range: i64) -> Done {
    let bar = progress();
    let verified = replicate::verify(settings, topics, range, |seen| show(&bar, seen));
    bar.finish_and_clear();
    let rows: Vec<_> = verified
        .map_err(failed)?
        .into_iter()
        .map(Compared)
        .collect();
    let differs = rows.iter().any(|row| row.0.first_difference().is_some());
    output::list(output, &rows, "copied partitions")?;
    Ok(if differs { SOME_FAILED } else { DONE })
}

fn show(bar: &ProgressBar, seen: Seen<'_>) {
    bar.set_message(format!("{}/{}", seen.topic, seen.partition));
    bar.set_length(seen.all);
    bar.set_position(seen.done);
}

fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    if let Ok(style) =
        ProgressStyle::with_template("{msg} {bar:32} {pos}/{len} offsets, {eta} left")
    {
        bar.set_style(style);
    }
    bar
}

/// A replication's failure. What was asked for wrongly has the exit code of wrong usage.
#[expect(clippy::needless_pass_by_value, reason = "as map_err gives it")]
fn failed(error: ReplicateError) -> Failure {
    match error.kind {
        ErrorKind::Settings => Failure::usage(error.to_string()),
        _ => Failure::work(error.to_string()),
    }
}
