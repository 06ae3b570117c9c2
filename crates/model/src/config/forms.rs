//! Tables of one of several forms: the key that names the form tells it from the others. An item of `deliver` is one, and a `source`.

use super::describe::Description;
use super::kind::Kind;
use super::reader::{Reader, nearest};
use super::setting::Section;
use super::tree::Node;

/// The forms of a table.
pub(super) trait Forms: Sized {
    /// The keys that every form has.
    type Common: Section;

    /// What a form is, for people: `channel`.
    const NOUN: &'static str;

    /// What to do where a table has several of them.
    const SEVERAL: &'static str;

    /// The forms, by the key that names each.
    fn describe() -> Vec<(&'static str, Description)>;

    /// Reads the form of that key.
    fn read(form: &str, node: &Node, reader: &mut Reader<'_>) -> Option<Self>;
}

/// How such a table is described.
pub(super) fn kind<F: Forms>() -> Kind {
    let forms = F::describe().into_iter().map(|(_, form)| form);
    Kind::Forms(forms.collect(), F::Common::describe())
}

/// Reads such a table.
pub(super) fn read<F: Forms>(node: &Node, reader: &mut Reader<'_>) -> Option<(F::Common, F)> {
    reader.table(node)?;
    let mut forms = F::describe();
    let kinds: Vec<_> = forms.iter().map(|(kind, _)| *kind).collect();
    let named: Vec<_> = kinds
        .iter()
        .copied()
        .filter(|kind| node.get(kind).is_some())
        .collect();
    let [kind] = named[..] else {
        if named.is_empty() {
            for entry in node.entries() {
                let Some(near) = nearest(&entry.key, kinds.iter().copied()) else {
                    continue;
                };
                let message = format!("unknown key; did you mean \"{near}\"?");
                return reader.at(&entry.key, |reader| reader.fault(entry.node.line, &message));
            }
            let message = format!(
                "names no {}; give one of the keys {}",
                F::NOUN,
                kinds.join(", ")
            );
            return reader.fault(node.line, &message);
        }
        let message = format!(
            "names {} {}s ({}); {}",
            named.len(),
            F::NOUN,
            named.join(", "),
            F::SEVERAL
        );
        return reader.fault(node.line, &message);
    };
    if let Some((_, form)) = forms.iter_mut().find(|(known, _)| *known == kind) {
        form.keys.extend(F::Common::describe().keys);
        reader.refuse_unknown(node, form);
    }
    let form = F::read(kind, node, reader);
    let common = F::Common::read_keys(node, reader);
    Some((common?, form?))
}

/// Lists the forms, a line a form, each a section: `/// doc` `Name = "key";`.
macro_rules! forms {
    (
        $(#[doc = $about:expr])+
        pub enum $name:ident: $noun:literal, $several:literal, with $common:ty {
            $($(#[doc = $doc:expr])+ $form:ident = $key:literal;)+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug)]
        pub enum $name {
            $($(#[doc = $doc])+ $form($form),)+
        }

        impl $name {
            /// The key that names it.
            #[must_use]
            pub const fn kind(&self) -> &'static str {
                match self { $(Self::$form(_) => $key,)+ }
            }
        }

        impl $crate::config::forms::Forms for $name {
            type Common = $common;
            const NOUN: &'static str = $noun;
            const SEVERAL: &'static str = $several;

            fn describe() -> Vec<(&'static str, $crate::config::describe::Description)> {
                vec![$(($key, <$form as $crate::config::setting::Section>::describe())),+]
            }

            fn read(
                form: &str,
                node: &$crate::config::tree::Node,
                reader: &mut $crate::config::reader::Reader<'_>,
            ) -> Option<Self> {
                match form {
                    $($key => <$form as $crate::config::setting::Section>::read_keys(node, reader).map(Self::$form),)+
                    _ => None,
                }
            }
        }
    };
}

pub(super) use forms;
