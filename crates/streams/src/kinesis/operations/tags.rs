//! Tags.

use super::super::fault::{Fault, Kind};
use super::super::service::{Access, name_of, no_stream};
use super::super::shapes::{AddTags, ListTags, MOST_TAGS, Nothing, RemoveTags, Tag, Tags};
use super::{Asked, Silent, required, within};

pub(super) async fn add(asked: Asked<'_, AddTags>) -> Silent {
    let name = name_of(&asked.request.which())?;
    asked.allow(Access::Admin, Some(&name))?;
    let tags = required(asked.request.tags.as_ref(), "tags")?;
    if let Some(key) = tags
        .keys()
        .find(|key| !(1..=128).contains(&key.chars().count()))
    {
        return Err(Fault::validation(
            key,
            "tags",
            "Map keys must satisfy constraint: [Member must have length less than or equal to 128, Member must have length greater than or equal to 1]",
        ));
    }
    asked
        .service
        .change(|state| {
            let stream = state.catalogue.streams.get_mut(&name);
            let stream = stream.ok_or_else(|| no_stream(&name))?;
            let mut all = stream.tags.clone();
            all.extend(tags.iter().map(|(key, value)| (key.clone(), value.clone())));
            if all.len() > MOST_TAGS {
                return Err(Fault::new(
                    Kind::InvalidArgument,
                    format!(
                        "Failed to add tags to stream {name}: it would have more than {MOST_TAGS}."
                    ),
                ));
            }
            stream.tags = all;
            Ok(Nothing {})
        })
        .await?
}

pub(super) async fn remove(asked: Asked<'_, RemoveTags>) -> Silent {
    let name = name_of(&asked.request.which())?;
    asked.allow(Access::Admin, Some(&name))?;
    let keys = required(asked.request.tag_keys.as_ref(), "tagKeys")?;
    if !(1..=MOST_TAGS).contains(&keys.len()) {
        return Err(Fault::validation(
            format!("[{} keys or more]", keys.len()),
            "tagKeys",
            &format!("Member must have length between 1 and {MOST_TAGS}"),
        ));
    }
    asked
        .service
        .change(|state| {
            let stream = state.catalogue.streams.get_mut(&name);
            let stream = stream.ok_or_else(|| no_stream(&name))?;
            stream.tags.retain(|key, _| !keys.contains(key));
            Ok(Nothing {})
        })
        .await?
}

pub(super) async fn list(asked: Asked<'_, ListTags>) -> Result<Tags, Fault> {
    let state = asked.service.state();
    let (_, stream) = asked.look_at(&state, &asked.request.which())?;
    let limit = within(asked.request.limit, "limit", 1, 50, 50)?;
    let after = asked.request.exclusive_start_tag_key.as_ref();
    let mut tags = stream
        .tags
        .iter()
        .filter(|(key, _)| after.is_none_or(|after| *key > after));
    let page = tags.by_ref().take(limit).map(|(key, value)| Tag {
        key: key.clone(),
        value: value.clone(),
    });
    Ok(Tags {
        tags: page.collect(),
        has_more_tags: tags.next().is_some(),
    })
}
