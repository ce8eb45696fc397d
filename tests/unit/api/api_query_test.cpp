// SPDX-License-Identifier: Apache-2.0
// Parameters behind the '?': those of the contract are accepted; for all others, the refusal lists what there is.
#include "api/query.hpp"
#include "tests/catch.hpp"
#include "tests/support/api_client.hpp"

namespace inox::api_query_test {

using tests::ApiClient;

namespace {

/// The refusal's text; empty when there is none.
std::string fault(const api::Query& query) { return query.refusal() ? ApiClient::fault(*query.refusal()) : ""; }

std::string hint(const api::Response& response) {
    return nlohmann::json::parse(response.body).value("hint", std::string{});
}

} // namespace

TEST_CASE("every operation under /inox/ takes the parameters of the contract and names them when it refuses one") {
    ApiClient client;
    const auto& root = client.contract().root();
    unsigned tried = 0;
    for (const auto& route : api::routes()) {
        if (!route.path.starts_with("/inox/"))
            continue;
        const auto& item = root.at("paths").at(std::string{route.path});
        const std::string method{api::method_name(route.method)};
        std::vector<std::string> names;
        auto add = [&](const nlohmann::json& of) {
            for (auto one : of.value("parameters", nlohmann::json::array())) {
                if (one.contains("$ref"))
                    one = root.at(nlohmann::json::json_pointer{one.at("$ref").get<std::string>().substr(1)});
                if (one.at("in") == "query")
                    names.push_back(one.at("name"));
            }
        };
        add(item);
        add(item.at(method == "GET" ? "get" : method == "PUT" ? "put" : "delete"));
        std::string path{route.path};
        if (const auto brace = path.find("{id}"); brace != path.npos)
            path.replace(brace, 4, "x");
        const std::string body = route.method != api::Method::put ? "" : "{\"disk\": {\"path_on_host\": \"x\"}}";
        INFO(method << " " << path);
        const auto response = client.call(route.method, path + "?nonsense=1", body);
        const auto text = ApiClient::fault(response);
        CHECK(text.find("there is no parameter 'nonsense' here: this path takes " +
                        (names.empty() ? std::string{"none"} : "")) == 0);
        for (const auto& name : names) {
            CHECK(text.find(name) != text.npos);
            CHECK(client.call(route.method, path + "?" + name + "=!", body).status == 400);
            CHECK(client.call(route.method, path + "?" + name + "=", body).status == 400);
            CHECK(ApiClient::fault(client.call(route.method, path + "?" + name + "=1&" + name + "=1", body)) ==
                  "'" + name + "' is given twice");
        }
        ++tried;
    }
    CHECK(tried >= 11);
}

TEST_CASE("a boolean is true or false") {
    for (const char* bad : {"maybe", "1", "0", "yes", "True", ""}) {
        api::Query query{std::string{"force="} + bad, {"kind", "force"}};
        CHECK_FALSE(query.boolean("force"));
        CHECK(fault(query) == "force is '" + std::string{bad} + "', neither true nor false");
        CHECK(hint(*query.refusal()) == "write force=true or force=false");
    }
    api::Query bare{"force", {"force"}};
    bare.boolean("force");
    CHECK_FALSE(fault(bare).empty());
    for (const bool value : {true, false}) {
        api::Query query{value ? "force=true" : "force=false", {"force"}};
        CHECK(query.boolean("force") == value);
        CHECK(fault(query).empty());
    }
    ApiClient client;
    CHECK(ApiClient::fault(client.del("/inox/devices/x?force=maybe")) == "force is 'maybe', neither true nor false");
}

TEST_CASE("numbers are decimal and have limits, addresses are hexadecimal") {
    const auto page = [](const char* text) {
        api::Query query{text, {"offset", "limit"}};
        const auto window = api::page_window(query);
        return std::tuple{window.offset, window.limit, fault(query)};
    };
    CHECK(page("") == std::tuple{0U, 100U, std::string{}});
    CHECK(page("limit=0&offset=7") == std::tuple{7U, 0U, std::string{}});
    CHECK(page("limit=1000") == std::tuple{0U, 1000U, std::string{}});
    CHECK(std::get<2>(page("limit=1001")) == "limit is '1001', which is too large");
    for (const char* bad : {"-1", "0x10", "1.5", "18446744073709551616", "%20", ""})
        CHECK_FALSE(std::get<2>(page((std::string{"offset="} + bad).c_str())).empty());
    api::Query query{"from=0x1%30&domain=4294967296", {"from", "domain"}};
    CHECK(query.address("from") == 0x10);
    CHECK_FALSE(query.number("domain", UINT32_MAX));
    CHECK(fault(query) == "domain is '4294967296', which is too large");
    for (const char* bad : {"g", "0x", "", "-1", "10000000000000000"}) {
        api::Query one{std::string{"from="} + bad, {"from"}};
        CHECK_FALSE(one.address("from"));
        CHECK(fault(one) == "from is '" + std::string{bad} + "', which is not an address");
    }
}

TEST_CASE("what means nothing without another parameter is refused, and a kind is one of those there are") {
    ApiClient client;
    CHECK(ApiClient::fault(client.get("/inox/iommu?from=0x1000")) == "from goes with domain only");
    CHECK(client.get("/inox/iommu?limit=5").body == R"({"items":[],"offset":0,"total":0})");
    CHECK(ApiClient::fault(client.get("/inox/iommu?domain=1&offset=5")) == "offset does not go with domain");
    CHECK(client.get("/inox/iommu?domain=1&from=0x1000&limit=5").status == 404);
    const auto response = client.get("/inox/devices/x?kind=disc");
    CHECK(ApiClient::fault(response) == "'disc' is not a kind of device");
    CHECK(hint(response) == "it is iommu, disk, net, vsock, entropy, balloon, console, share, vfio or dsa");
    CHECK(client.get("/inox/devices/x?kind=%64isk").status == 404);
    CHECK(client.get("/inox/devices?&limit=1&").status == 200);
    CHECK(client.get("/inox/devices?%zz=1").status == 400);
}

} // namespace inox::api_query_test
