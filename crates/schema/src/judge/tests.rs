use serde_json::json;

use super::*;

fn told(schema: &Value, value: &Value) -> Vec<String> {
    let root = json!({"components": {"schemas": {
        "id": {"type": "integer", "minimum": 1},
        "tree": {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/tree"}}, "additionalProperties": false},
        "self": {"allOf": [{"$ref": "#/components/schemas/self"}, {"$ref": "#/components/schemas/self"}]},
    }}});
    Judge::new(&root, false, Way::Response)
        .judge(schema, value)
        .into_iter()
        .map(|fault| format!("{} {}", fault.pointer, fault.message))
        .collect()
}

#[test]
fn complaints_have_a_place_and_say_what_is_wanted() {
    let schema = json!({
        "type": "object",
        "required": ["name", "id"],
        "additionalProperties": false,
        "properties": {
            "id": {"$ref": "#/components/schemas/id"},
            "name": {"type": "string", "maxLength": 3},
            "state": {"enum": ["up", "down"]},
            "tags": {"type": "array", "items": {"type": ["string", "null"]}, "uniqueItems": true},
        }
    });
    assert_eq!(
        told(&schema, &json!({"id": 1, "name": "a", "tags": ["a", null]})),
        Vec::<String>::new()
    );
    assert_eq!(
        told(
            &schema,
            &json!({"id": 0, "nmae": "x", "state": "off", "tags": [1, "a", "a"]})
        ),
        [
            " has no `name`",
            "/id is 0, less than 1",
            "/state is `\"off\"`, not one of `\"up\"`, `\"down\"`",
            "/tags has an item twice",
            "/tags/0 is `1`, not a text, null",
            "/nmae `nmae` is not in the schema; did you mean `name`?",
        ]
    );
}

#[test]
fn schemas_may_refer_to_themselves_and_not_for_ever() {
    let tree = json!({"$ref": "#/components/schemas/tree"});
    assert_eq!(told(&tree, &json!({"next": {"next": {}}})), Vec::<String>::new());
    assert_eq!(
        told(&tree, &json!({"next": {"x": 1}})),
        ["/next/x `x` is not in the schema"]
    );
    assert!(told(&json!({"$ref": "#/components/schemas/self"}), &json!(1))[0].contains("without end"));
    assert_eq!(
        told(&json!({"$ref": "#/no"}), &json!(1)),
        [" the reference `#/no` leads nowhere"]
    );
}

#[test]
fn of_several_forms_the_nearest_is_told() {
    let schema = json!({"oneOf": [
        {"type": "string"},
        {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    ]});
    assert_eq!(
        told(&schema, &json!({"a": "x"})),
        [
            " fits none of 2 forms; the nearest says what follows",
            "/a is the text `\"x\"`, not a whole number"
        ]
    );
}

#[test]
fn three_zero_has_its_own_words() {
    let root = json!({});
    let old = Judge::new(&root, true, Way::Response);
    let schema = json!({"type": "number", "nullable": true, "minimum": 1, "exclusiveMinimum": true});
    assert_eq!(old.judge(&schema, &json!(null)), []);
    assert_eq!(old.judge(&schema, &json!(2)), []);
    assert_eq!(old.judge(&schema, &json!(1)).len(), 1);
    let new = Judge::new(&root, false, Way::Response);
    assert_eq!(new.judge(&schema, &json!(null)).len(), 1);
}

#[test]
fn what_goes_one_way_need_not_go_the_other() {
    let root = json!({});
    let schema = json!({
        "required": ["id", "secret"],
        "properties": {"id": {"readOnly": true}, "secret": {"writeOnly": true}},
    });
    let faults = |way, value| Judge::new(&root, false, way).judge(&schema, &value).len();
    assert_eq!(faults(Way::Request, json!({"secret": 1})), 0);
    assert_eq!(faults(Way::Response, json!({"secret": 1})), 1);
    assert_eq!(faults(Way::Response, json!({"id": 1})), 0);
}

/// What a judge says who does not know what is at `/key`, or may not repeat it.
fn told_of_secret(schema: &Value, value: &Value, is_known: bool) -> Vec<String> {
    let judge = Judge::new(schema, false, Way::Request).hidden(["/key".to_owned()]);
    let judge = if is_known {
        judge
    } else {
        judge.unknown(["/key".to_owned()])
    };
    judge
        .judge(schema, value)
        .into_iter()
        .map(|fault| format!("{} {}", fault.pointer, fault.message))
        .collect()
}

#[test]
fn what_is_not_known_is_taken_for_fitting_and_counts_as_there() {
    let absent = json!({"a": 1});
    let there = json!({"a": 1, "key": null});
    for schema in [
        json!({"required": ["key"], "properties": {"key": {"type": "string", "minLength": 8}}}),
        json!({"not": {"properties": {"key": {"const": "x"}}, "required": ["key"]}}),
        json!({"oneOf": [{"properties": {"key": {"const": 1}}, "required": ["key"]}, {"properties": {"key": {"const": 2}}, "required": ["key"]}]}),
        json!({"if": {"properties": {"key": {"const": 1}}}, "then": {"required": ["b"]}, "else": {"required": ["a"]}}),
        json!({"if": {"properties": {"key": {"const": 1}}}, "then": {"required": ["b"]}}),
        json!({"enum": [{"a": 1, "key": "x"}]}),
        json!({"additionalProperties": false, "properties": {"a": true, "key": {"type": "string"}}}),
    ] {
        assert_eq!(
            told_of_secret(&schema, &there, false),
            Vec::<String>::new(),
            "{schema}"
        );
    }
    let schema = json!({"required": ["key"]});
    assert_eq!(told_of_secret(&schema, &absent, false), [" has no `key`"]);
    let schema = json!({"additionalProperties": false, "properties": {"a": true}});
    assert_eq!(
        told_of_secret(&schema, &there, false),
        ["/key `key` is not in the schema"]
    );
    let schema = json!({"propertyNames": {"maxLength": 2}});
    assert_eq!(
        told_of_secret(&schema, &there, false),
        ["/key its name has 3 characters, more than 2"]
    );
}

#[test]
fn what_is_hidden_is_in_no_complaint() {
    let value = json!({"key": {"hunter2": "swordfish"}});
    for schema in [
        json!({"properties": {"key": {"type": "string"}}}),
        json!({"properties": {"key": {"additionalProperties": false}}}),
        json!({"properties": {"key": {"properties": {"hunter2": {"maxLength": 3, "pattern": "^a", "const": "x"}}}}}),
        json!({"const": {"key": 1}}),
        json!({"enum": [{"key": 1}]}),
        json!({"anyOf": [{"const": {"key": 1}}, {"properties": {"key": {"type": "null"}}}]}),
    ] {
        let told = told_of_secret(&schema, &value, true);
        assert!(!told.is_empty(), "{schema}");
        let told = told.join("\n");
        assert!(!told.contains("hunter2") && !told.contains("swordfish"), "{told}");
    }
}
