#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""openapi_check.py CONTRACT ANSWERS: holds recorded answers to the contract.

ANSWERS has an answer a line: method, path, status, type and body with tabs between. Prints what does not fit; status 1
then."""
import json
import re
import sys


class Contract:
    def __init__(self, document):
        self.document = document

    def resolve(self, schema):
        while "$ref" in schema:
            target = self.document
            for part in schema["$ref"].lstrip("#/").split("/"):
                target = target[part]
            schema = target
        return schema

    def path_item(self, path):
        items = self.document["paths"]
        if path in items:
            return items[path]
        return items.get(path.rsplit("/", 1)[0] + "/{id}")

    def complaint(self, answer):
        item = self.path_item(answer["path"].split("?")[0])
        operation = item and item.get(answer["method"].lower())
        if not operation:
            return "" if answer["status"] >= 400 else "no such operation in the contract"
        responses = operation["responses"]
        if str(answer["status"]) not in responses and answer["status"] < 400:
            return "this status is not in the contract"
        response = self.resolve(responses.get(str(answer["status"]), responses["default"]))
        content = response.get("content")
        if not content:
            return "a body where the contract has none" if answer["body"] else ""
        for media, value in content.items():
            if answer["type"].startswith(media):
                if media != "application/json":
                    return ""
                return self.check(json.loads(answer["body"]), value["schema"], "")
        return f"type {answer['type']!r} is not in the contract"

    TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int}

    def check(self, value, schema, where):
        schema = self.resolve(schema)
        if "anyOf" in schema:
            found = [self.check(value, one, where) for one in schema["anyOf"]]
            return "" if "" in found else "; ".join(found)
        if "const" in schema and value != schema["const"]:
            return f"{where} is not {schema['const']!r}"
        if "enum" in schema and value not in schema["enum"]:
            return f"{where} is {value!r}, not one of {schema['enum']}"
        types = schema.get("type", [])
        types = [types] if isinstance(types, str) else types
        if types and not any(isinstance(value, self.TYPES[one]) and not (one == "integer" and isinstance(value, bool))
                             for one in types):
            return f"{where} is {value!r}, not of type {types}"
        if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
            return f"{where} {value!r} does not match {schema['pattern']}"
        if isinstance(value, int) and value < schema.get("minimum", value):
            return f"{where} is too small"
        if isinstance(value, list):
            for index, one in enumerate(value):
                problem = self.check(one, schema.get("items", {}), f"{where}/{index}")
                if problem:
                    return problem
        if isinstance(value, dict):
            return self.check_object(value, schema, where)
        return ""

    def check_object(self, value, schema, where):
        for name in schema.get("required", []):
            if name not in value:
                return f"{where} lacks {name}"
        others = schema.get("additionalProperties", True)
        for name, member in value.items():
            of = schema.get("properties", {}).get(name, others)
            if of is False:
                return f"{where}/{name} is not in the contract"
            problem = self.check(member, of, f"{where}/{name}") if isinstance(of, dict) else ""
            if problem:
                return problem
        return ""


def main():
    with open(sys.argv[1], encoding="utf-8") as source:
        contract = Contract(json.load(source))
    count = bad = 0
    with open(sys.argv[2], encoding="utf-8") as answers:
        for line in answers:
            answer = dict(zip(("method", "path", "status", "type", "body"), line.rstrip("\n").split("\t")))
            answer["status"] = int(answer["status"])
            count += 1
            problem = contract.complaint(answer)
            if problem:
                bad += 1
                print(f"{answer['method']} {answer['path']} -> {answer['status']} {answer['body'][:200]}: {problem}")
    print(f"{count} answers held to the contract, {bad} do not fit")
    sys.exit(1 if bad or not count else 0)


main()
