//! Text built from fields: `{question}\n{choices}`. `\n` is a newline, `{{` and `}}` are braces, lists
//! are joined by newlines, a missing field is empty.

use std::collections::BTreeMap;

use serde_json::Value;

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    source: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(String),
}

/// A template that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the text template {source_text:?} is wrong at character {at}: {what}")]
pub struct TemplateError {
    /// The template.
    pub source_text: String,
    /// The character, from 1.
    pub at: usize,
    /// What is wrong.
    pub what: &'static str,
}

impl Template {
    /// Reads a template.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let error = |at: usize, what| TemplateError { source_text: source.to_owned(), at: at + 1, what };
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut characters = source.chars().enumerate().peekable();
        while let Some((at, character)) = characters.next() {
            let next = characters.peek().map(|(_, next)| *next);
            match (character, next) {
                ('{', Some('{')) | ('}', Some('}')) => {
                    text.push(character);
                    characters.next();
                }
                ('\\', Some('n')) => {
                    text.push('\n');
                    characters.next();
                }
                ('}', _) => return Err(error(at, "a '}' without its '{'; write '}}' for a brace")),
                ('{', _) => {
                    let mut name = String::new();
                    loop {
                        match characters.next() {
                            Some((_, '}')) => break,
                            Some((_, '{')) | None => return Err(error(at, "a '{' without its '}'")),
                            Some((_, character)) => name.push(character),
                        }
                    }
                    if name.is_empty() {
                        return Err(error(at, "a field without a name"));
                    }
                    if !text.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut text)));
                    }
                    pieces.push(Piece::Field(name));
                }
                _ => text.push(character),
            }
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(Self { source: source.to_owned(), pieces })
    }

    /// The template as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether a field's value goes into the text.
    pub fn uses(&self, field: &str) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Field(name) if name == field))
    }

    /// The text of an item.
    pub fn render(&self, fields: &BTreeMap<String, String>) -> String {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.as_str(),
                Piece::Field(name) => fields.get(name).map_or("", String::as_str),
            })
            .collect()
    }
}

/// A value as it stands in a text: lists joined by newlines, null empty, objects as JSON.
pub fn as_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(as_text).collect::<Vec<_>>().join("\n"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_fields_newlines_and_braces() {
        let template = Template::parse(r"{question}\n{choices} {{x}} {absent}").unwrap();
        let choices = as_text(&serde_json::json!(["①", 2, null]));
        let fields =
            BTreeMap::from([("question".to_owned(), "질문".to_owned()), ("choices".to_owned(), choices)]);
        assert_eq!(template.render(&fields), "질문\n①\n2\n {x} ");
        assert!(template.uses("choices") && !template.uses("x"));
    }

    #[test]
    fn wrong_templates_name_the_place() {
        for (source, at) in [("a{b", 2), ("a}b", 2), ("{}", 1), ("{a{b}", 1)] {
            assert_eq!(Template::parse(source).unwrap_err().at, at, "{source}");
        }
    }
}
