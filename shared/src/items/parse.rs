//! The bytes of one item to an [`Item`]: fields that nobody asked for are skipped, not kept.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Item;
use super::mapping::{FieldMapping, Role};
use super::template::as_text;
use crate::excerpt::excerpt;
use crate::images::check_path;
use crate::npz::MAX_ID_CHARACTERS;

/// The most values of one wanted field, nested ones counted. A value in memory takes up to a hundred
/// times its bytes in the file, so that the size of an item alone would bound nothing.
const MOST_VALUES: usize = 1 << 18;

/// What is wrong with an item.
#[derive(Debug, PartialEq, Eq)]
pub enum ItemFault {
    /// Not JSON: line and column inside the item, from 1.
    Syntax {
        /// The line.
        line: u64,
        /// The column.
        column: u64,
        /// What is wrong.
        what: String,
    },
    /// A field.
    Field {
        /// Its name.
        field: String,
        /// What is wrong.
        what: String,
    },
}

/// Reads an item.
pub fn parse(bytes: &[u8], mapping: &FieldMapping) -> Result<Item, ItemFault> {
    // Text of many bytes a character takes serde_json longer to test than to parse. It still tells what is no text.
    let raw = match simdutf8::basic::from_utf8(bytes) {
        Ok(text) => read(serde_json::Deserializer::from_str(text), mapping),
        Err(_) => read(serde_json::Deserializer::from_slice(bytes), mapping),
    };
    let raw = raw.map_err(|error| ItemFault::Syntax {
        line: error.line() as u64,
        column: error.column() as u64,
        what: without_place(&error),
    })?;
    let text = match &mapping.template {
        Some(template) => Some(template.render(&raw.kept)),
        None => text(mapping, raw.text)?,
    };
    Ok(Item {
        id: id(mapping, raw.id)?,
        text,
        images: images(raw.images)?,
        has_image: raw.has_image,
        fields: raw.kept.into_iter().filter(|(name, _)| mapping.keep.contains(name)).collect(),
    })
}

fn read<'de, R: serde_json::de::Read<'de>>(
    mut deserializer: serde_json::Deserializer<R>,
    mapping: &FieldMapping,
) -> serde_json::Result<RawFields> {
    let raw = RawItem { mapping }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(raw)
}

/// `serde_json` ends its messages with the place; ours is another.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(what, _)| what.to_owned())
}

fn fault(field: &str, what: impl Into<String>) -> ItemFault {
    ItemFault::Field { field: field.to_owned(), what: what.into() }
}

fn id(mapping: &FieldMapping, raw: Option<(u8, String, Value)>) -> Result<String, ItemFault> {
    let Some((_, field, value)) = raw else {
        return Err(fault(mapping.id_name(), "is missing"));
    };
    let id = match value {
        Value::String(text) => text,
        Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
        other => return Err(fault(&field, format!("must be a string or an integer, not {}", kind(&other)))),
    };
    match id.as_str() {
        "" => Err(fault(&field, "is empty")),
        id if id.contains('\0') => Err(fault(&field, "holds a NUL")),
        // What the arrays of the result cannot hold is refused before a vector is computed for it.
        id if id.chars().count() as u64 > MAX_ID_CHARACTERS => {
            Err(fault(&field, format!("has more than {MAX_ID_CHARACTERS} characters")))
        }
        _ => Ok(id),
    }
}

fn text(mapping: &FieldMapping, raw: Option<Value>) -> Result<Option<String>, ItemFault> {
    match raw {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => {
            let field = mapping.text.as_deref().unwrap_or("text");
            Err(fault(field, format!("must be a string, not {}", kind(&other))))
        }
    }
}

fn images(raw: Option<(u8, String, Value)>) -> Result<Vec<String>, ItemFault> {
    let Some((_, field, value)) = raw else {
        return Ok(Vec::new());
    };
    let paths = match value {
        Value::Null => Vec::new(),
        // Many exports write an empty string for "none".
        Value::String(path) if path.is_empty() => Vec::new(),
        Value::String(path) => vec![path],
        Value::Array(values) => values
            .into_iter()
            .map(|value| match value {
                Value::String(path) => Ok(path),
                other => Err(fault(&field, format!("must hold paths, not {}", kind(&other)))),
            })
            .collect::<Result<_, _>>()?,
        other => {
            return Err(fault(&field, format!("must be a list of paths or one path, not {}", kind(&other))));
        }
    };
    for path in &paths {
        check_path(path).map_err(|what| fault(&field, format!("holds {:?}: {what}", excerpt(path))))?;
    }
    Ok(paths)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Added to the rank of a name whose value is null.
const NULL_RANK: u8 = 10;

/// Fields as they stand, before their types are looked at.
#[derive(Default)]
struct RawFields {
    id: Option<(u8, String, Value)>,
    text: Option<Value>,
    images: Option<(u8, String, Value)>,
    has_image: Option<bool>,
    kept: BTreeMap<String, String>,
}

struct RawItem<'a> {
    mapping: &'a FieldMapping,
}

impl<'de> DeserializeSeed<'de> for RawItem<'_> {
    type Value = RawFields;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawFields, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RawItem<'_> {
    type Value = RawFields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawFields, A::Error> {
        let mut raw = RawFields::default();
        let better = |present: &Option<(u8, String, Value)>, rank| {
            present.as_ref().is_none_or(|(old, ..)| rank < *old)
        };
        while let Some(Field(field)) = map.next_key()? {
            let role = self.mapping.role(&field);
            let kept = self.mapping.is_kept(&field);
            if role.is_none() && !kept {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = wanted(&field, map.next_value()?)?;
            // A null under the first name gives way to a value under the second.
            let role = match role {
                Some(Role::Id(rank)) if value.is_null() => Some(Role::Id(rank + NULL_RANK)),
                Some(Role::Images(rank)) if value.is_null() => Some(Role::Images(rank + NULL_RANK)),
                role => role,
            };
            let again = match role {
                Some(Role::Id(rank)) => raw.id.as_ref().is_some_and(|(old, ..)| *old == rank),
                Some(Role::Images(rank)) => raw.images.as_ref().is_some_and(|(old, ..)| *old == rank),
                Some(Role::Text) => raw.text.is_some(),
                _ => false,
            };
            if again {
                return Err(A::Error::custom(format!("the field {:?} stands twice", excerpt(&field))));
            }
            if kept {
                raw.kept.insert(field.clone().into_owned(), as_text(&value));
            }
            match role {
                Some(Role::Id(rank)) if better(&raw.id, rank) => {
                    raw.id = Some((rank, field.into_owned(), value));
                }
                Some(Role::Images(rank)) if better(&raw.images, rank) => {
                    raw.images = Some((rank, field.into_owned(), value));
                }
                Some(Role::Text) => raw.text = Some(value),
                Some(Role::HasImage) => raw.has_image = value.as_bool(),
                _ => {}
            }
        }
        Ok(raw)
    }
}

/// The name of a field, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Field<'a>(#[serde(borrow)] Cow<'a, str>);

/// The value of a field that was asked for, once its size is known to be sane.
fn wanted<E: serde::de::Error>(field: &str, raw: &RawValue) -> Result<Value, E> {
    // Long texts, most of all there is to read: valid JSON between quotes that has no escapes is the text.
    let quoted = raw.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    if let Some(text) = quoted.filter(|text| !text.contains('\\')) {
        return Ok(Value::String(text.to_owned()));
    }
    let wrong = |what: &str| E::custom(format!("the field {:?} {what}", excerpt(field)));
    if has_too_many_values(raw.get()) {
        return Err(wrong(&format!("holds more than {MOST_VALUES} values")));
    }
    // What is left to go wrong is depth and half a surrogate pair: the syntax was checked.
    serde_json::from_str(raw.get())
        .map_err(|error| wrong(&format!("cannot be read: {}", without_place(&error))))
}

/// Whether valid JSON has more than [`MOST_VALUES`] values: each but the first of a list or an object
/// has a comma before it.
fn has_too_many_values(json: &str) -> bool {
    if json.len() <= MOST_VALUES {
        return false;
    }
    let (mut in_string, mut escaped, mut count) = (false, false, 0);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => count += 1,
            _ => {}
        }
    }
    count > MOST_VALUES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::items::Template;

    fn read(text: &str) -> Result<Item, ItemFault> {
        parse(text.as_bytes(), &FieldMapping::default())
    }

    #[test]
    fn what_is_no_text_is_told_with_its_place() {
        let parsed = |bytes: &[u8]| parse(bytes, &FieldMapping::default());
        let fault = parsed(b"{\"id\": 1,\n \"text\": \"\xea\xb0\"}").unwrap_err();
        let ItemFault::Syntax { line, what, .. } = &fault else { panic!("{fault:?}") };
        assert_eq!((*line, what.as_str()), (2, "invalid unicode code point"));
        assert!(parsed(b"{\"id\": 1, \"other\": \"\xff\"}").is_ok(), "nobody asked for that field");
        assert_eq!(parsed("{\"id\": \"가\"}".as_bytes()).unwrap().id, "가");
    }

    #[test]
    fn defaults_are_read() {
        let item =
            read(r#"{"id": 7, "text": "t", "image": "a.png", "has_image": true, "year": 2005}"#).unwrap();
        assert_eq!((item.id.as_str(), item.text.as_deref(), item.has_image), ("7", Some("t"), Some(true)));
        assert_eq!(item.images, ["a.png"]);
        assert!(item.fields.is_empty());
        let item =
            read(r#"{"id": "x", "item_id": "y", "text": null, "images": ["a", "b"], "image": "c"}"#).unwrap();
        assert_eq!((item.id.as_str(), item.text, item.images.len()), ("y", None, 2));
        let item = read(r#"{"item_id": null, "id": "x", "images": null, "image": "c"}"#).unwrap();
        assert_eq!((item.id.as_str(), item.images), ("x", vec!["c".to_owned()]));
        assert_eq!(read(r#"{"id": "x", "text": "", "image": ""}"#).unwrap().text.as_deref(), Some(""));
    }

    #[test]
    fn wrong_fields_are_named() {
        for (text, field) in [
            (r#"{"text": "t"}"#, "item_id"),
            (r#"{"id": 1.5}"#, "id"),
            (r#"{"id": ""}"#, "id"),
            (r#"{"id": "a\u0000b"}"#, "id"),
            (r#"{"id": null}"#, "id"),
            (r#"{"id": 1, "text": 3}"#, "text"),
            (r#"{"id": 1, "images": 3}"#, "images"),
            (r#"{"id": 1, "images": [3]}"#, "images"),
            (r#"{"id": 1, "images": ["../a.png"]}"#, "images"),
            (r#"{"id": 1, "image": "/etc/passwd"}"#, "image"),
        ] {
            let ItemFault::Field { field: found, .. } = read(text).unwrap_err() else { panic!("{text}") };
            assert_eq!(found, field, "{text}");
        }
        assert!(matches!(read(r#"{"id": 1 "text": 2}"#), Err(ItemFault::Syntax { .. })));
        assert!(matches!(read(r#"{"id": 1, "id": 2}"#), Err(ItemFault::Syntax { .. })));
        let deep = format!(r#"{{"id": 1, "x": {}}}"#, "[".repeat(100_000));
        assert!(read(&deep).is_err());
    }

    #[test]
    fn a_value_that_grows_in_memory_is_refused_where_it_is_wanted() {
        let many = format!("[{}0]", r#"{"a":0},"#.repeat(MOST_VALUES));
        let ItemFault::Syntax { what, .. } = read(&format!(r#"{{"id": {many}}}"#)).unwrap_err() else {
            panic!("a fault of the whole item")
        };
        assert!(what.contains("\"id\" holds more than"), "{what}");
        // Skipped, it costs nothing; in a string, commas are text.
        assert!(read(&format!(r#"{{"id": 1, "other": {many}}}"#)).is_ok());
        let text = r#",[{\",\\"#.repeat(MOST_VALUES / 4);
        assert!(read(&format!(r#"{{"id": 1, "text": "{text}"}}"#)).is_ok());
    }

    #[test]
    fn an_id_that_no_part_can_hold_is_refused() {
        let with = |length: u64| read(&format!(r#"{{"id": "{}"}}"#, "가".repeat(length as usize)));
        assert!(with(MAX_ID_CHARACTERS).is_ok());
        assert!(matches!(with(MAX_ID_CHARACTERS + 1), Err(ItemFault::Field { .. })));
    }

    #[test]
    fn a_message_about_a_long_path_is_short() {
        let path = format!("/{}", "a".repeat(1 << 20));
        let ItemFault::Field { what, .. } = read(&format!(r#"{{"id": 1, "image": "{path}"}}"#)).unwrap_err()
        else {
            panic!("the field is named")
        };
        assert!(what.len() < 400 && what.contains("absolute"), "{what}");
    }

    #[test]
    fn a_mapping_and_a_template_replace_the_defaults() {
        let mapping = FieldMapping {
            id: Some("no".into()),
            images: Some("pics".into()),
            template: Some(Template::parse(r"{q}\n{c}").unwrap()),
            keep: ["year".to_owned()].into(),
            ..FieldMapping::default()
        };
        let text = r#"{"no": "a", "id": 2, "q": "Q", "c": ["1", "2"], "text": 5, "pics": "p", "year": 2005}"#;
        let item = parse(text.as_bytes(), &mapping).unwrap();
        assert_eq!((item.id.as_str(), item.text.as_deref()), ("a", Some("Q\n1\n2")));
        assert_eq!(item.images, ["p"]);
        assert_eq!(item.fields, [("year".to_owned(), "2005".to_owned())].into());
    }
}
