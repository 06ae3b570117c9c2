//! `linkspan reference`: the generated pages of docs/, from the same descriptions that the program checks with.

mod errors;

use std::path::PathBuf;

use clap::CommandFactory as _;
use linkspan_model::config;

use super::{Cli, DONE, Done, Failure};
use crate::http::openapi;

/// The arguments of `linkspan reference`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder to write to.
    folder: PathBuf,
}

pub(super) fn run(args: &Args) -> Done {
    for (name, text) in pages()? {
        let path = args.folder.join(name);
        std::fs::write(&path, text)
            .map_err(|error| Failure::work(format!("cannot write {}: {error}", path.display())))?;
        eprintln!("wrote {}", path.display());
    }
    Ok(DONE)
}

/// Every generated page: its file name and text.
fn pages() -> Result<Vec<(&'static str, String)>, Failure> {
    let json = |value: serde_json::Value| {
        serde_json::to_string_pretty(&value)
            .map(|text| text + "\n")
            .map_err(|error| Failure::of(&error))
    };
    Ok(vec![
        ("configuration.md", config::reference()),
        ("linkspan.schema.json", json(config::schema())?),
        ("openapi.json", json(openapi::description())?),
        ("command-line.md", command_line()),
        ("errors.md", errors::page()),
    ])
}

/// The command line's help, verb by verb.
fn command_line() -> String {
    let mut page =
        "# The command line\n\nGenerated from the program's own help; do not edit.\n".to_owned();
    let mut cli = Cli::command().term_width(100);
    cli.build();
    describe(&mut cli, "linkspan", 2, &mut page);
    page
}

fn describe(command: &mut clap::Command, path: &str, level: usize, page: &mut String) {
    let help = command.render_long_help().to_string();
    let lines: Vec<_> = help.lines().map(str::trim_end).collect();
    page.push_str(&format!(
        "\n{} `{path}`\n\n```text\n{}\n```\n",
        "#".repeat(level),
        lines.join("\n").trim_end()
    ));
    let verbs: Vec<String> = command
        .get_subcommands()
        .filter(|verb| !verb.is_hide_set() && verb.get_name() != "help")
        .map(|verb| verb.get_name().to_owned())
        .collect();
    for verb in verbs {
        if let Some(sub) = command.find_subcommand_mut(&verb) {
            describe(sub, &format!("{path} {verb}"), (level + 1).min(4), page);
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_pages_in_docs_are_up_to_date() {
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");
        for (name, text) in super::pages().unwrap() {
            let committed = std::fs::read_to_string(format!("{docs}/{name}")).unwrap_or_default();
            assert!(
                committed == text,
                "docs/{name} is out of date; write it anew with: cargo run -p linkspan -- reference docs"
            );
        }
    }
}
