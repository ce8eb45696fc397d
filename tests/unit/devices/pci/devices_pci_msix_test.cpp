// SPDX-License-Identifier: Apache-2.0
#include "devices/pci/msix.hpp"

#include "tests/catch.hpp"
#include "tests/fakes/fake_irqs.hpp"

namespace inox::devices_pci_msix_test {

using namespace devices::pci;

namespace {

constexpr MsixLayout test_layout{
    .vectors = 70, .table_bar = 4, .table_offset = 0x2000, .pba_bar = 4, .pba_offset = 0x3000};

/// A function's MSI-X as its driver sees it.
struct Driver {
    fakes::FakeIrqs irqs{};
    ConfigSpace config{{.vendor = 0x1af4, .device = 0x1041}};
    Msix msix;
    unsigned capability;

    explicit Driver(const MsixLayout& layout = test_layout)
        : msix{irqs, layout}, capability{msix.add_capability(config).value()} {}

    void control(std::uint16_t value) {
        std::array<std::byte, 2> bytes{};
        store_le(bytes, value);
        config.write(capability + 2, bytes);
    }
    void enable() { control(0x8000); }
    template <std::unsigned_integral T> T get(std::uint64_t offset) {
        std::array<std::byte, sizeof(T)> bytes{};
        REQUIRE(msix.bar_read(4, offset, bytes));
        return load_le<T>(bytes);
    }
    template <std::unsigned_integral T> void set(std::uint64_t offset, std::type_identity_t<T> value) {
        std::array<std::byte, sizeof(T)> bytes{};
        store_le(bytes, value);
        REQUIRE(msix.bar_write(4, offset, bytes));
    }
    static std::uint64_t entry(unsigned vector) { return 0x2000 + 16 * vector; }
    void program(unsigned vector, std::uint32_t data, std::uint32_t address = 0xfee01000) {
        set<std::uint32_t>(entry(vector), address);
        set<std::uint32_t>(entry(vector) + 4, 0);
        set<std::uint32_t>(entry(vector) + 8, data);
    }
    void mask(unsigned vector, bool masked) { set<std::uint32_t>(entry(vector) + 12, masked); }
    std::uint64_t pending(unsigned word = 0) { return get<std::uint64_t>(0x3000 + 8 * word); }
};

} // namespace

TEST_CASE("the capability says where table and pending bits are, and only its control bits are writable") {
    Driver driver;
    CHECK(driver.config.get<std::uint8_t>(driver.capability) == 0x11);
    CHECK(driver.config.get<std::uint16_t>(driver.capability + 2) == 69);
    CHECK(driver.config.get<std::uint32_t>(driver.capability + 4) == 0x2004);
    CHECK(driver.config.get<std::uint32_t>(driver.capability + 8) == 0x3004);
    driver.control(0xffff);
    CHECK(driver.config.get<std::uint16_t>(driver.capability + 2) == (0xc000 | 69));
    CHECK(driver.msix.enabled());
}

TEST_CASE("entries start masked and zero, and keep what is written but reserved bits") {
    Driver driver;
    for (unsigned vector = 0; vector < 70; ++vector) {
        CHECK(driver.get<std::uint64_t>(Driver::entry(vector)) == 0);
        CHECK(driver.get<std::uint64_t>(Driver::entry(vector) + 8) == 0x100000000);
    }
    driver.set<std::uint64_t>(Driver::entry(69), 0x00000001fee00fff);
    driver.set<std::uint64_t>(Driver::entry(69) + 8, 0xfffffffe00004041);
    CHECK(driver.get<std::uint64_t>(Driver::entry(69)) == 0x00000001fee00ffc);
    CHECK(driver.get<std::uint64_t>(Driver::entry(69) + 8) == 0x4041);
    CHECK(driver.get<std::uint8_t>(Driver::entry(69) + 9) == 0x40);
}

TEST_CASE("a vector takes a host interrupt only when it first becomes live") {
    Driver driver;
    driver.enable();
    driver.program(3, 0x33);
    CHECK(driver.irqs.vectors.empty());
    driver.mask(3, false);
    REQUIRE(driver.irqs.vectors.size() == 1);
    driver.msix.trigger(3);
    CHECK(driver.irqs.vectors[0]->delivered == std::vector<MsiMessage>{{0xfee01000, 0x33}});
    driver.mask(3, true);
    driver.mask(3, false);
    driver.control(0);
    driver.enable();
    CHECK(driver.irqs.vectors.size() == 1);
    CHECK(driver.irqs.vectors[0]->routes == 1);
}

TEST_CASE("what comes while a vector is masked is pending, and delivered once on unmask") {
    Driver driver;
    driver.enable();
    driver.program(66, 0x42);
    driver.msix.trigger(66); // before it was ever unmasked
    driver.msix.trigger(66);
    CHECK(driver.pending(0) == 0);
    CHECK(driver.pending(1) == 4);
    CHECK(driver.get<std::uint32_t>(0x3008) == 4);
    driver.mask(66, false);
    CHECK(driver.pending(1) == 0);
    CHECK(driver.irqs.vectors[0]->delivered.size() == 1);
    driver.mask(66, true);
    driver.msix.trigger(66);
    CHECK(driver.pending(1) == 4);
    driver.mask(66, false);
    CHECK(driver.irqs.vectors[0]->delivered.size() == 2);
}

TEST_CASE("the function mask holds every vector back") {
    Driver driver;
    driver.enable();
    for (unsigned vector = 0; vector < 3; ++vector) {
        driver.program(vector, vector);
        driver.mask(vector, false);
    }
    driver.control(0xc000);
    for (unsigned vector = 0; vector < 3; ++vector)
        driver.msix.trigger(vector);
    CHECK(driver.pending() == 7);
    driver.enable();
    CHECK(driver.pending() == 0);
    for (const auto& vector : driver.irqs.vectors)
        CHECK(vector->delivered.size() == 1);
}

TEST_CASE("an eventfd signalled while masked shows as pending too") {
    Driver driver;
    const int fd = driver.msix.trigger_fd(1).value();
    CHECK(fd == driver.irqs.vectors[0]->trigger.fd());
    driver.enable();
    driver.irqs.vectors[0]->pending = true; // as the kernel would
    CHECK(driver.pending() == 2);
    driver.program(1, 0x51);
    driver.mask(1, false);
    CHECK(driver.pending() == 0);
    CHECK(driver.irqs.vectors[0]->delivered == std::vector<MsiMessage>{{0xfee01000, 0x51}});
    CHECK_FALSE(driver.msix.trigger_fd(70));
}

TEST_CASE("while MSI-X is off, triggers are dropped and nothing is pending") {
    Driver driver;
    driver.program(0, 1);
    driver.mask(0, false);
    driver.msix.trigger(0);
    CHECK(driver.irqs.vectors.empty());
    driver.control(0xc000);
    driver.msix.trigger(0);
    CHECK(driver.pending() == 1);
    driver.control(0x4000);
    CHECK(driver.pending() == 0);
    driver.enable();
    CHECK(driver.irqs.vectors.at(0)->delivered.empty());
}

TEST_CASE("a message changed while live goes to its new destination") {
    Driver driver;
    driver.enable();
    driver.program(0, 1);
    driver.mask(0, false);
    driver.set<std::uint32_t>(Driver::entry(0), 0xfee02000);
    driver.set<std::uint32_t>(Driver::entry(0) + 8, 2);
    driver.msix.trigger(0);
    CHECK(driver.irqs.vectors[0]->delivered == std::vector<MsiMessage>{{0xfee02000, 2}});
}

TEST_CASE("a message that is no interrupt is never routed") {
    Driver driver;
    driver.enable();
    driver.program(0, 1, 0x00100000);
    driver.mask(0, false);
    driver.msix.trigger(0);
    CHECK(driver.irqs.vectors.empty());
    CHECK(driver.pending() == 1);
    driver.program(0, 1);
    CHECK(driver.irqs.vectors.at(0)->delivered.size() == 1);
    driver.set<std::uint32_t>(Driver::entry(0), 0x00100000); // a live vector gets an address that is no MSI
    driver.msix.trigger(0);
    CHECK(driver.irqs.vectors[0]->delivered.size() == 1);
    CHECK_FALSE(driver.irqs.vectors[0]->enabled);
}

TEST_CASE("without host interrupts left a vector stays silent and the others work") {
    Driver driver;
    driver.irqs.capacity = 1;
    driver.enable();
    for (unsigned vector = 0; vector < 2; ++vector) {
        driver.program(vector, vector);
        driver.mask(vector, false);
        driver.msix.trigger(vector);
    }
    CHECK(driver.irqs.vectors.size() == 1);
    CHECK(driver.irqs.vectors[0]->delivered.size() == 1);
    CHECK(driver.pending() == 2);
}

TEST_CASE("undefined accesses change nothing and never leave the table") {
    Driver driver;
    driver.enable();
    driver.program(69, 0x77);
    driver.set<std::uint8_t>(Driver::entry(69) + 12, 0);
    driver.set<std::uint16_t>(Driver::entry(69) + 8, 0);
    driver.set<std::uint32_t>(Driver::entry(69) + 10, 0);
    driver.set<std::uint64_t>(Driver::entry(69) + 4, 0);
    driver.set<std::uint64_t>(Driver::entry(69) + 12, 0); // beyond the table's end
    driver.set<std::uint64_t>(0x3000, ~std::uint64_t{0}); // pending bits
    CHECK(driver.get<std::uint64_t>(Driver::entry(69) + 8) == 0x100000077);
    CHECK(driver.get<std::uint64_t>(Driver::entry(69) + 12) == ~std::uint64_t{0});
    CHECK(driver.get<std::uint64_t>(0x1ffc) == ~std::uint64_t{0});
    CHECK(driver.pending() == 0);
    std::array<std::byte, 4> bytes{};
    CHECK_FALSE(driver.msix.bar_read(4, 0x1ffc, bytes));
    CHECK_FALSE(driver.msix.bar_read(4, 0x2000 + 70 * 16, bytes));
    CHECK_FALSE(driver.msix.bar_read(4, 0x3010, bytes));
    CHECK_FALSE(driver.msix.bar_read(3, 0x2000, bytes));
    CHECK_FALSE(driver.msix.bar_write(4, 0x1000, bytes));
    driver.msix.trigger(70);
    driver.msix.trigger(~0U);
}

TEST_CASE("the owner hears when a vector becomes live and when it stops") {
    Driver driver;
    std::vector<std::pair<unsigned, bool>> heard;
    driver.msix.on_vector([&](unsigned vector, bool live, int) { heard.emplace_back(vector, live); });
    driver.program(2, 2);
    driver.mask(2, false);
    CHECK(heard.empty());
    driver.enable();
    driver.program(2, 3); // a new message is not reported
    driver.control(0);
    CHECK(heard == std::vector<std::pair<unsigned, bool>>{{2, true}, {2, false}});
}

TEST_CASE("a reset leaves every vector masked, silent and not pending") {
    Driver driver;
    driver.enable();
    driver.program(0, 1);
    driver.mask(0, false);
    driver.msix.trigger(1);
    driver.msix.reset();
    CHECK_FALSE(driver.msix.enabled());
    CHECK_FALSE(driver.irqs.vectors[0]->enabled);
    CHECK(driver.pending() == 0);
    CHECK(driver.get<std::uint64_t>(Driver::entry(0)) == 0);
    CHECK(driver.get<std::uint64_t>(Driver::entry(0) + 8) == 0x100000000);
}

} // namespace inox::devices_pci_msix_test
