//! What a filter can call: jq's own functions, without those that reach outside their input.

use jaq_core::native::{self, Fun};
use jaq_core::{DataT, Exn, Native, load};
use jaq_json::Val;

use super::bounds::Running;

/// What jaq's library offers and a filter must not have: the process's environment, its log and standard error, its end, its time zone.
/// `input` and its kin, `$ENV` and modules are offered only to those who ask for them.
const LEFT_OUT: [&str; 9] = [
    "env",
    "debug_empty",
    "stderr_empty",
    "debug",
    "stderr",
    "halt",
    "halt_error",
    "localtime",
    "strflocaltime",
];

/// What jq has and this interpreter does not: named in the same way.
const NOT_THERE: [&str; 6] = [
    "input",
    "inputs",
    "input_filename",
    "input_line_number",
    "get_search_list",
    "modulemeta",
];

/// Whether a filter of this name exists and is left out.
pub(super) fn is_left_out(name: &str) -> bool {
    LEFT_OUT.contains(&name) || NOT_THERE.contains(&name)
}

/// The filters that are written in jq.
pub(super) fn definitions() -> impl Iterator<Item = load::parse::Def<&'static str>> {
    jaq_core::defs()
        .chain(jaq_std::defs())
        .chain(jaq_json::defs())
        .filter(|definition| !is_left_out(definition.name))
}

/// The filters that are written in Rust. `range` is our own, which counts its steps.
pub(super) fn functions() -> impl Iterator<Item = Fun<Running>> {
    jaq_core::funs()
        .chain(jaq_std::funs())
        .chain(jaq_json::funs())
        .filter(|(name, ..)| *name != "range" && !is_left_out(name))
        .chain([("range", native::v(3), Native::<Running>::new(range))])
}

/// `range($from; $to; $by)`, a step of the evaluation for each output.
fn range<'a>(
    (mut context, _): jaq_core::Cv<'a, Running>,
) -> jaq_core::ValXs<'a, <Running as DataT>::V<'a>> {
    let by = context.pop_var();
    let to = context.pop_var();
    let mut next = Some(context.pop_var());
    let zero = Val::from(0_isize);
    Box::new(std::iter::from_fn(move || {
        context.data().budget.step();
        let value = next.take()?;
        let goes_on = if by > zero {
            value < to
        } else if by < zero {
            value > to
        } else {
            value != to
        };
        if !goes_on {
            return None;
        }
        match value.clone() + by.clone() {
            Ok(following) => next = Some(following),
            Err(error) => return Some(Err(Exn::from(error))),
        }
        Some(Ok(value))
    }))
}
