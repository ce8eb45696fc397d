// SPDX-License-Identifier: Apache-2.0
#include "tests/catch.hpp"
#include "vmm/config/config_file.hpp"

namespace inox::config_iommu_test {

namespace {

ParsedConfig parse(const std::string& iommu, Dialect dialect = Dialect::inox) {
    return parse_config(R"({"iommu": )" + iommu + "}", dialect);
}

} // namespace

TEST_CASE("an IOMMU comes with its defaults, or with what is asked for") {
    CHECK(parse_config("{}", Dialect::inox).file.config.devices.empty());
    CHECK(parse("null").file.config.devices.empty());
    const auto plain = parse("{}");
    const auto* iommu = device_of<IommuConfig>(plain.file.config);
    REQUIRE(iommu);
    CHECK(plain.problems.empty());
    CHECK(iommu->limits == iommu::Limits{});
    const auto parsed = parse(R"({"bypass": false, "address_bits": 64, "max_domains": 3, "max_mappings": 77})");
    const auto* full = device_of<IommuConfig>(parsed.file.config);
    REQUIRE(full);
    CHECK(full->bypass == false);
    CHECK((full->limits.address_bits == 64 && full->limits.domains == 3 && full->limits.mappings == 77));
}

TEST_CASE("devices may bypass at first, unless some are assigned, unless the operator decides") {
    Config config;
    CHECK_FALSE(boot_bypass(config));
    put_device(config, IommuConfig{});
    CHECK(boot_bypass(config));
    put_device(config, VfioConfig{});
    CHECK_FALSE(boot_bypass(config));
    put_device(config, IommuConfig{.bypass = true});
    CHECK(boot_bypass(config));
    config.devices = {IommuConfig{.bypass = false}};
    CHECK_FALSE(boot_bypass(config));
}

TEST_CASE("values an IOMMU cannot have are refused with their place") {
    const auto [text, where] = GENERATE(table<std::string, std::string>({
        {R"({"address_bits": 31})", "/iommu/address_bits"},
        {R"({"address_bits": 65})", "/iommu/address_bits"},
        {R"({"max_domains": 0})", "/iommu/max_domains"},
        {R"({"max_mappings": 0})", "/iommu/max_mappings"},
        {R"({"max_mappings": 99999999})", "/iommu/max_mappings"},
        {R"({"bypass": "yes"})", "/iommu/bypass"},
        {R"({"bits": 4})", "/iommu/bits"},
    }));
    const auto parsed = parse(text);
    REQUIRE(parsed.problems.size() == 1);
    CHECK(parsed.problems[0].where == where);
}

TEST_CASE("an IOMMU needs PCI") {
    Config config;
    put_device(config, IommuConfig{});
    config.machine.transport = Transport::mmio;
    const auto problems = check(config);
    REQUIRE(problems.size() == 1);
    CHECK(problems[0].where == "/iommu");
}

} // namespace inox::config_iommu_test
