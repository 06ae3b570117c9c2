//! What the people whom the identity provider knows may do: the configuration's rules, looked up at each request.

use linkspan_model::config::{Grants, Oidc};
use serde_json::{Map, Value};

use crate::keys::Scope;

/// What an entry begins with that names a person by the provider's `sub`, not by their name.
const SUB: &str = "sub:";

/// The caller's name of a person; jobs belong to it. No key can have it: their names hold no colon.
pub(in crate::http::console) fn caller(name: &str) -> String {
    format!("oidc:{name}")
}

/// Those values of the claim `scope_claim` for which there is a rule.
pub(super) fn values(oidc: &Oidc, claims: &Map<String, Value>) -> Vec<String> {
    let claim = oidc.scope_claim.as_deref();
    let said: Vec<&str> = match claim.and_then(|claim| find(claims, claim)) {
        Some(Value::String(value)) => vec![value],
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let rules = oidc.scopes.iter().flat_map(Grants::iter);
    rules
        .map(|(value, _)| value)
        .filter(|value| said.contains(value))
        .map(str::to_owned)
        .collect()
}

/// What the rules give to a person with these values; nothing: not let in.
pub(in crate::http::console) fn scopes(
    oidc: &Oidc,
    subject: &str,
    name: &str,
    values: &[String],
) -> Vec<Scope> {
    let by_name = |admin: &String| admin == name && !admin.starts_with(SUB);
    let named: Vec<&str> = if oidc.admin.iter().any(by_name) || names(&oidc.admin, subject) {
        vec!["admin"]
    } else {
        let rules = oidc.scopes.iter().flat_map(Grants::iter);
        rules
            .filter(|(value, _)| values.iter().any(|own| own == value))
            .flat_map(|(_, scopes)| scopes.iter().map(String::as_str))
            .collect()
    };
    let mut scopes: Vec<Scope> = Vec::new();
    for scope in named.into_iter().filter_map(|scope| scope.parse().ok()) {
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    scopes
}

/// Whether one of the entries is `sub:` and this subject.
pub(super) fn names(entries: &[String], subject: &str) -> bool {
    entries
        .iter()
        .any(|entry| entry.strip_prefix(SUB) == Some(subject))
}

/// A claim by its name, or by a JSON Pointer (RFC 6901) where the name begins with a slash.
pub(super) fn find<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c Value> {
    match name.strip_prefix('/') {
        None => claims.get(name),
        Some(rest) => {
            let (first, rest) = match rest.split_once('/') {
                Some((first, rest)) => (first, format!("/{rest}")),
                None => (rest, String::new()),
            };
            claims.get(first)?.pointer(&rest)
        }
    }
}

pub(super) fn text(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_is_found_by_its_name_or_a_pointer() {
        let claims = json!({"groups": ["a"], "realm_access": {"roles": ["b"]}, "https://id.example.com/roles": "c"});
        let claims = claims.as_object().unwrap();
        assert_eq!(find(claims, "groups"), Some(&json!(["a"])));
        assert_eq!(find(claims, "/realm_access/roles"), Some(&json!(["b"])));
        assert_eq!(find(claims, "/groups"), Some(&json!(["a"])));
        assert_eq!(
            find(claims, "https://id.example.com/roles"),
            Some(&json!("c"))
        );
        assert_eq!(find(claims, "/realm_access/none"), None);
        assert_eq!(find(claims, "realm_access/roles"), None);
    }
}
