//! Senders, recipients, and the domains to which emails may go.

use lettre::Address;
use lettre::message::{Mailbox, Mailboxes};
use linkspan_model::config;
use url::Host;

/// The recipients of a list, each of an allowed domain.
pub(super) fn recipients(
    list: &config::Mailboxes,
    allowed: &[String],
) -> Result<Vec<Mailbox>, String> {
    let people = read(list)?;
    check_domains(people.iter().map(|one| &one.email), allowed)?;
    Ok(people)
}

/// The one sender.
pub(super) fn sender(list: &config::Mailboxes) -> Result<Mailbox, String> {
    match <[Mailbox; 1]>::try_from(read(list)?) {
        Ok([one]) => Ok(one),
        Err(_) => Err("is not one address".to_owned()),
    }
}

/// Whether every address is of an allowed domain; the domain itself, not those below it.
pub(super) fn check_domains<'a>(
    mut addresses: impl Iterator<Item = &'a Address>,
    allowed: &[String],
) -> Result<(), String> {
    let allowed: Vec<String> = allowed.iter().map(|domain| canonical(domain)).collect();
    match addresses.find(|address| !allowed.contains(&canonical(address.domain()))) {
        None => Ok(()),
        Some(address) => Err(format!(
            "{} is not among email.allowed_domains, so no email goes there",
            address.domain()
        )),
    }
}

/// The domains of the recipients, each once: what may be shown of them.
pub(super) fn domains(people: &[Mailbox]) -> String {
    let mut domains: Vec<String> = people
        .iter()
        .map(|one| canonical(one.email.domain()))
        .collect();
    domains.sort();
    domains.dedup();
    domains.join(", ")
}

/// A domain as it is compared: small letters, A-labels (RFC 5890), no dot at the end.
fn canonical(domain: &str) -> String {
    let domain = domain.trim().trim_end_matches('.');
    Host::parse(domain).map_or_else(|_| domain.to_lowercase(), |host| host.to_string())
}

fn read(list: &config::Mailboxes) -> Result<Vec<Mailbox>, String> {
    // The library's error names the address: it is the operator's own, but the log need not have it.
    let people: Mailboxes = list
        .as_str()
        .parse()
        .map_err(|_| "holds an address that cannot be read; write \"Name <user@example.com>\", with commas between them".to_owned())?;
    Ok(people.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use linkspan_model::config::Mailboxes;

    use super::*;

    fn list(text: &str) -> Mailboxes {
        // The configuration's own type has no other door than its file.
        let toml = format!(
            "[email]\nserver = \"localhost\"\nfrom = {text:?}\nallowed_domains = []\n[service.s]\ntask = \"sentiment\"\n[integration.i]\npattern = \"async\"\nsteps = [\"s\"]\n"
        );
        let nothing = |_: config::Reference<'_>| Err("nothing".to_owned());
        config::Config::parse(&toml, "t", &nothing)
            .unwrap()
            .email
            .unwrap()
            .from
    }

    #[test]
    fn only_the_very_domains_of_the_list_are_allowed() {
        let allowed = ["Example.com".to_owned(), "bücher.example".to_owned()];
        for (people, fine) in [
            ("a@example.com", true),
            ("Ann Lee <a@EXAMPLE.com>, b@example.com", true),
            ("a@xn--bcher-kva.example", true),
            ("a@mail.example.com", false),
            ("a@example.com.evil.test", false),
            ("a@notexample.com", false),
            ("a@example.com, b@evil.test", false),
        ] {
            assert_eq!(
                recipients(&list(people), &allowed).is_ok(),
                fine,
                "{people}"
            );
        }
        assert!(recipients(&list("a@example.com"), &[]).is_err());
    }

    #[test]
    fn a_refusal_names_the_domain_and_not_the_person() {
        let error = recipients(&list("secret.person@evil.test"), &[]).unwrap_err();
        assert!(
            error.contains("evil.test") && !error.contains("secret.person"),
            "{error}"
        );
    }
}
