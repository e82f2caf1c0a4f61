use super::*;

const YAML: &str = "openapi: 3.0.3
servers: [{url: https://e.org/v2/}]
paths:
  /a/{id}:
    parameters:
      - $ref: '#/components/parameters/id'
    get:
      summary: Shows one.
      tags: [A]
      parameters:
        - {name: q, in: query, schema: {type: integer}, example: 3}
      responses:
        200:
          description: Here.
          content:
            text/plain: {}
            application/problem+json: {schema: {$ref: '#/components/schemas/a'}}
        default: {description: Else.}
    delete:
      requestBody: {required: true, content: {application/json: {examples: {x: {value: 7}}}}}
components:
  parameters: {id: {name: id, in: path, required: true, schema: {type: string}}}
  schemas: {a: {type: object}}
";

#[test]
fn operations_are_read_with_what_they_refer_to() {
    let document = Document::parse("a.yaml", YAML.to_owned()).expect("a document");
    assert!(document.three_zero);
    assert_eq!(document.base_path(), "/v2");
    let [get, delete] = document.operations.as_slice() else {
        panic!("{:?}", document.operations)
    };
    let names: Vec<_> = get
        .parameters
        .iter()
        .map(|parameter| parameter.name.as_str())
        .collect();
    assert_eq!(names, ["id", "q"]);
    assert_eq!(get.parameters[1].example, Some(Value::from(3)));
    let answer = get.answer(200).expect("an answer");
    assert_eq!(answer.content.media, "application/problem+json");
    assert_eq!(
        get.answer(418).map(|answer| answer.status.as_str()),
        Some("default")
    );
    assert_eq!(
        delete.body.as_ref().and_then(|body| body.example.clone()),
        Some(Value::from(7))
    );
    assert_eq!(document.position(delete).line, 19);
}

#[test]
fn json_has_places_too() {
    let text = serde_json::to_string_pretty(&serde_json::json!({
        "openapi": "3.1.0", "paths": {"/b": {"post": {}}, "/a": {"get": {}, "post": {}}}
    }))
    .expect("json");
    let document = Document::parse("a.json", text).expect("a document");
    let last = document.operations.last().expect("operations");
    assert_eq!((last.path.as_str(), document.position(last).line), ("/a", 9));
}

#[test]
fn what_cannot_be_read_is_told() {
    for (text, told) in [
        ("{", "a:1:1: is no JSON: EOF while parsing an object"),
        (
            "swagger: '2.0'",
            "a:1:1: is no OpenAPI document: it has no `openapi`",
        ),
        ("openapi: 4.0.0", "a:1:1: is of OpenAPI 4.0.0"),
        (
            "openapi: 3.1.0\npaths:\n  /a:\n    gte: {}",
            "a:3:3: `gte` is no method",
        ),
        (
            "openapi: 3.1.0\npaths:\n  /a:\n    get:\n      requestBody: {$ref: 'b.yaml#/x'}",
            "a:3:3: GET /a: the reference `b.yaml#/x` leads out of the file: only those within it are followed",
        ),
        (
            "openapi: 3.1.0\npaths:\n  /a:\n    $ref: '#/paths/~1a'",
            "a:3:3: its references lead in a circle",
        ),
    ] {
        let trouble = Document::parse("a", text.to_owned()).expect_err(text);
        assert_eq!(trouble.to_string(), told);
    }
}
