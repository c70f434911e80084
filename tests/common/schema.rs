//! Holds real output to the schemas in `src/schema`.
//!
//! In: a schema's name and a value. Out: a failure that names the place. Knows the keywords that our schemas use and
//! refuses others, so that none is passed over; a key that a schema does not name is a failure too.
#![allow(dead_code)]

use serde_json::{Map, Value};

/// Fails unless `value` is as `src/schema/NAME.json` says.
pub fn assert_is(name: &str, value: &Value) {
    let path = format!("{}/src/schema/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let root: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
    if let Err(why) = check(&root, &root, value, "$") {
        panic!("not as {name}.json says: {why}");
    }
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let Value::Object(schema) = schema else {
        return if schema == &Value::Bool(true) {
            Ok(())
        } else {
            Err(format!("{at}: nothing is allowed here"))
        };
    };
    for (keyword, wanted) in schema {
        let holds = match keyword.as_str() {
            "$schema"
            | "$defs"
            | "title"
            | "description"
            | "default"
            | "format"
            | "properties"
            | "additionalProperties"
            | "required" => true,
            "$ref" => {
                let path = wanted.as_str().and_then(|r| r.strip_prefix('#')).expect("a place in the schema");
                let target = root.pointer(path).unwrap_or_else(|| panic!("{path} is not in the schema"));
                return check(root, target, value, at);
            }
            "type" => {
                let names = wanted.as_array().cloned().unwrap_or_else(|| vec![wanted.clone()]);
                names.iter().any(|n| is_a(n.as_str().expect("a type"), value))
            }
            "enum" => wanted.as_array().expect("a list").contains(value),
            "const" => wanted == value,
            "minimum" => value.as_f64().is_none_or(|v| Some(v) >= wanted.as_f64()),
            "maximum" => value.as_f64().is_none_or(|v| Some(v) <= wanted.as_f64()),
            "minItems" => value.as_array().is_none_or(|v| Some(v.len() as u64) >= wanted.as_u64()),
            "maxItems" => value.as_array().is_none_or(|v| Some(v.len() as u64) <= wanted.as_u64()),
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, wanted, item, &format!("{at}[{i}]"))?;
                }
                true
            }
            "anyOf" | "oneOf" => {
                let found: Vec<_> =
                    wanted.as_array().expect("a list").iter().map(|s| check(root, s, value, at)).collect();
                let good = found.iter().filter(|f| f.is_ok()).count();
                if good == 0 {
                    let why: Vec<_> = found.into_iter().filter_map(Result::err).collect();
                    return Err(format!("{at} is none of these: {}", why.join("; ")));
                }
                keyword == "anyOf" || good == 1
            }
            other => panic!("{other}: a keyword that this test does not know"),
        };
        if !holds {
            return Err(format!("{at}: {value} breaks {keyword} {wanted}"));
        }
    }
    match value {
        Value::Object(object) if schema.contains_key("properties") || schema.contains_key("required") => {
            object_holds(root, schema, object, at)
        }
        Value::Object(object) => match schema.get("additionalProperties") {
            Some(each) => object.iter().try_for_each(|(k, v)| check(root, each, v, &format!("{at}.{k}"))),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

fn object_holds(
    root: &Value,
    schema: &Map<String, Value>,
    object: &Map<String, Value>,
    at: &str,
) -> Result<(), String> {
    for key in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        let key = key.as_str().expect("a key");
        if !object.contains_key(key) {
            return Err(format!("{at}.{key} is missing"));
        }
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (key, value) in object {
        let at = format!("{at}.{key}");
        match properties.and_then(|p| p.get(key)).or_else(|| schema.get("additionalProperties")) {
            Some(known) => check(root, known, value, &at)?,
            None => return Err(format!("{at} is not in the schema")),
        }
    }
    Ok(())
}

fn is_a(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("{other}: a type that this test does not know"),
    }
}
