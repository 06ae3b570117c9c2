//! The channels of a configuration: opened, and every fault of them told with its key.

use std::path::Path;

use linkspan_model::config::deliver::channel_names;
use linkspan_model::config::{Config, Fault};

use super::{Deliveries, Opened};
use crate::channels::{self, Context};
use crate::keys::HashKey;
use crate::links::Links;
use crate::logging;
use crate::outbound::Outbound;
use crate::store::Endpoint;

impl Deliveries {
    /// Opens every channel of a configuration. Calls nobody.
    ///
    /// # Errors
    ///
    /// Every fault, with its key and line.
    pub fn open(config: &Config, context: &Context) -> Result<Self, Vec<Fault>> {
        let mut opened = Vec::new();
        let mut faults = Vec::new();
        for (name, integration) in &config.integrations {
            let names = channel_names(&integration.deliver);
            for (nth, (item, channel)) in integration.deliver.iter().zip(&names).enumerate() {
                let at = format!("integration.{name}.deliver[{nth}]");
                let endpoint = Endpoint::new(name.as_str(), channel);
                let kind = item.channel.kind();
                match channels::open(item, name.as_str(), context) {
                    Err(sentences) => {
                        let sentences = sentences.iter();
                        faults.extend(sentences.map(|sentence| fault(config, &at, sentence)));
                    }
                    Ok(channel) => match Opened::new(endpoint, kind, &item.common, channel) {
                        Ok(channel) => opened.push(channel),
                        Err(bad) => faults.extend(bad.into_iter().map(|(key, error)| {
                            let message = format!("is no jq filter that can be used: {error}");
                            config.fault(&format!("{at}.{key}"), message)
                        })),
                    },
                }
            }
        }
        if faults.is_empty() {
            Ok(Self::new(opened))
        } else {
            Err(faults)
        }
    }

    /// What is wrong with the channels of a configuration in `folder`, without a gateway.
    #[must_use]
    pub fn check(config: &Config, folder: &Path) -> Vec<Fault> {
        let outbound = match Outbound::new(&config.outbound, folder) {
            Ok(outbound) => outbound,
            Err(error) => return vec![config.fault("outbound.ca", logging::chain(&error))],
        };
        let key = match HashKey::throwaway() {
            Ok(key) => key,
            Err(error) => {
                return vec![config.fault("", format!("no random bytes are to be had: {error}"))];
            }
        };
        let links = Links::new(&Links::base_of(config), &key);
        let context = Context::of(config, folder.to_owned(), outbound, links);
        Self::open(config, &context).err().unwrap_or_default()
    }
}

/// A channel's sentence, `secret: is too short`, as a fault of that key; `email.from: …` is one of the section `[email]`.
fn fault(config: &Config, at: &str, sentence: &str) -> Fault {
    match sentence.split_once(": ") {
        Some((key, message)) if key.starts_with("email.") => config.fault(key, message),
        Some((key, message)) if !key.contains(' ') => config.fault(&format!("{at}.{key}"), message),
        _ => config.fault(at, sentence),
    }
}
