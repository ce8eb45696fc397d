// SPDX-License-Identifier: Apache-2.0
// How `inox ctl` shows answers, and makes requests of words.
#include <nlohmann/json.hpp>

#include "api/client.hpp"
#include "api/firecracker/protocol.hpp"
#include "api/json_tables.hpp"
#include "api/server_parser.hpp"
#include "tests/catch.hpp"

namespace inox::api_tables_test {

TEST_CASE("a refusal shows the server's own text, with its code and hint where it has them") {
    const auto own = api::refusal_error(
        400, R"({"fault_message": "no such disk", "code": "disk_missing", "hint": "look at the path"})");
    CHECK(own.what == "no such disk");
    CHECK(own.code == Errc::disk_missing);
    CHECK(own.hint == "look at the path");

    // A refusal by Firecracker's parser has a raw newline, so it is not valid JSON.
    api::RequestParser parser;
    parser.feed("FOO / HTTP/1.1\r\n\r\n");
    REQUIRE(parser.step() == api::RequestParser::Step::refused);
    const auto method = api::refusal_error(400, parser.refusal().body);
    CHECK(method.what == "Invalid HTTP Method: FOO. All previous unanswered requests will be dropped.");
    CHECK(method.code == Errc::bad_option);
    CHECK_FALSE(method.hint.empty());

    const auto full = api::refusal_error(503, api::firecracker::protocol_error("Too many open connections"));
    CHECK(full.what == "Too many open connections");
    CHECK(full.code == Errc::no_resource);
    CHECK(full.hint.find("--api-connections") != std::string::npos);
    CHECK(api::refusal_error(403, api::firecracker::protocol_error("x")).hint.find("--api-group") != std::string::npos);
}

TEST_CASE("whatever a refusal holds, it is shown and harms nothing") {
    CHECK(api::refusal_error(418, "short\x1b[2J and stout").what == "status 418: short?[2J and stout");
    CHECK(api::refusal_error(500, "").what == "status 500");
    for (const char* odd : {"[]", "{}", "null", R"({"fault_message": 5, "error": {}, "code": [], "hint": null})"})
        CHECK(api::refusal_error(400, odd).what.starts_with("status 400: "));
    CHECK(api::refusal_error(400, R"({"fault_message": "x", "code": "from the future"})").what == "x");
}

TEST_CASE("Prometheus' text becomes a list of samples") {
    const auto text = "# TYPE inox_block_read_bytes_total counter\n"
                      "inox_block_read_bytes_total{id=\"root\"} 18446744073709551615\n"
                      "inox_block_read_bytes_total{id=\"a b\",other=\"\"} 2\n"
                      "# TYPE inox_vcpu_running gauge\ninox_vcpu_running 1\n# HELP x\nbroken\n\n";
    const auto list = nlohmann::json::parse(api::metrics_json(text));
    REQUIRE(list.size() == 3);
    CHECK(list[0] == nlohmann::json::parse(R"({"name": "inox_block_read_bytes_total", "labels": {"id": "root"},
                                              "type": "counter", "value": 18446744073709551615})"));
    CHECK(list[1]["labels"] == nlohmann::json::parse(R"({"id": "a b", "other": ""})"));
    CHECK(list[2] ==
          nlohmann::json::parse(R"({"name": "inox_vcpu_running", "labels": {}, "type": "gauge", "value": 1})"));
    CHECK(api::metrics_json("") == "[]\n");
    for (const char* odd : {"x{ 1", "x{=\"\" 1", "x{a=\" 1", "{} 1", " ", "x nan"})
        CHECK(nlohmann::json::parse(api::metrics_json(odd)).is_array());
}

TEST_CASE("words become JSON where they are some, and text where not") {
    for (const char* json : {"5", "true", "null", R"({"size": 1})", R"("5")", "-1.5"})
        CHECK(api::json_or_quoted(json) == json);
    CHECK(api::json_or_quoted("iommufd") == "\"iommufd\"");
    CHECK(api::json_or_quoted("00112233-4455-6677-8899-aabbccddeeff") == "\"00112233-4455-6677-8899-aabbccddeeff\"");
    CHECK(api::json_or_quoted("") == "\"\"");
    CHECK(api::json_or_quoted("a\"b") == R"("a\"b")");
}

TEST_CASE("what has a meaning in a path is written as a code") {
    CHECK(api::percent_encoded("aZ09-._~") == "aZ09-._~");
    CHECK(api::percent_encoded("bad id!/..?x=%\xc3\xa4\n") == "bad%20id%21%2F..%3Fx%3D%25%C3%A4%0A");
}

} // namespace inox::api_tables_test
