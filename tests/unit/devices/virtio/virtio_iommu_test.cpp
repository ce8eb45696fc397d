// SPDX-License-Identifier: Apache-2.0
// The device in front of the address-space core: its queues, its configuration, and other devices behind it.
#include "devices/virtio/iommu.hpp"

#include <array>
#include <atomic>
#include <cstring>
#include <mutex>
#include <semaphore>
#include <set>
#include <thread>
#include <unistd.h>

#include "devices/virtio/entropy.hpp"
#include "devices/virtio/pci_transport.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/iommu_world.hpp"
#include "tests/fakes/virtio_driver.hpp"
#include "tests/support/run_loop.hpp"
#include "vmm/base/log.hpp"

namespace inox::virtio_iommu_test {

using namespace devices::virtio;
using fakes::IommuWorld;
using iommu::Status;
using W = IommuWorld;
namespace wire = iommu::wire;

namespace {

constexpr std::uint64_t page = W::page;
constexpr std::uint64_t accepted =
    wire::feature::map_unmap | wire::feature::probe | wire::feature::bypass_config | feature::version_1;

struct Guest {
    IommuWorld world{};
    EventLoop loop{};
    fakes::VirtioDriver driver{};
    std::shared_ptr<Iommu> device{Iommu::create(world.domains, loop)};

    Guest() {
        log::set_level(log::Level::off);
        driver.activate(*device, accepted);
    }
    ~Guest() {
        device->reset();
        log::set_level(log::Level::warning);
    }
    template <class T> static T typed(T request, wire::Type type) {
        request.head.type = static_cast<std::uint8_t>(type);
        return request;
    }
    static wire::Attach attach(std::uint32_t domain, iommu::EndpointId endpoint) {
        return typed(wire::Attach{{}, domain, endpoint.raw(), 0, 0}, wire::Type::attach);
    }
    static wire::Map map(std::uint32_t domain, std::uint64_t first, std::uint64_t physical) {
        return typed(wire::Map{{}, domain, first * page, first * page + page - 1, physical * page, 3}, wire::Type::map);
    }
    /// The answer's status; nullopt when there was no answer.
    template <class T> std::optional<Status> ask(const T& request) {
        const auto pieces = driver[0].chain().readable(request).writable(4).post();
        device->kick(0);
        const auto used = driver[0].used();
        if (!used || used->length != 4)
            return std::nullopt;
        return static_cast<Status>(driver.ram.get<std::uint8_t>(pieces[1].address));
    }
    template <class T> Status send(const T& request) {
        const auto status = ask(request);
        REQUIRE(status);
        return *status;
    }
    std::uint8_t config_byte(std::uint64_t offset) {
        std::array<std::byte, 1> byte{};
        device->read_config(offset, byte);
        return std::to_integer<std::uint8_t>(byte[0]);
    }
    /// An access by the disk to an address without a mapping.
    void provoke(std::uint64_t at, Access access = Access::write) {
        (void)W::reach(world.ram, *world.disk_memory, at, access);
    }
};

} // namespace

TEST_CASE("virtio-iommu offers what its driver needs, and says how large things are") {
    Guest guest;
    CHECK(guest.device->features() == (wire::feature::input_range | wire::feature::domain_range |
                                       wire::feature::map_unmap | wire::feature::probe | wire::feature::bypass_config));
    wire::Config config;
    guest.device->read_config(0, std::as_writable_bytes(std::span{&config, 1}));
    CHECK(config.page_size_mask == 0x40201000);
    CHECK((config.input_start == 0 && config.input_last == 0xffffffffffff));
    CHECK((config.domain_first == 0 && config.domain_last == 0xffff));
    CHECK((config.probe_size == 512 && config.bypass == 0));
    std::array<std::byte, 8> beyond{};
    guest.device->read_config(38, beyond);
    guest.device->read_config(~std::uint64_t{0}, beyond);
    CHECK(beyond == std::array<std::byte, 8>{});
}

TEST_CASE("the bypass field takes 0 and 1, alone or within a wider write, and outlives a reset") {
    Guest guest;
    const auto write = [&](std::uint64_t offset, std::initializer_list<int> bytes) {
        std::vector<std::byte> data;
        for (const int byte : bytes)
            data.push_back(static_cast<std::byte>(byte));
        guest.device->write_config(offset, data);
        return guest.config_byte(36);
    };
    CHECK(write(36, {1}) == 1);
    CHECK(guest.world.reach(5) == 5); // takes effect at once
    CHECK(write(36, {2}) == 1);
    CHECK(write(36, {255}) == 1);
    CHECK(write(37, {0}) == 1);
    CHECK(write(32, {0, 0, 0, 0}) == 1);
    CHECK(write(0, {0, 0, 0, 0, 0, 0, 0, 0}) == 1);
    guest.device->reset();
    CHECK(guest.config_byte(36) == 1);
    CHECK(write(36, {0}) == 0); // also without a driver
    CHECK_FALSE(guest.world.reach(5));
    CHECK(write(32, {7, 7, 7, 7, 1, 7, 7, 7}) == 1);
}

TEST_CASE("requests are answered within the kick, and hosts have what was asked for by then") {
    Guest guest;
    CHECK(guest.send(Guest::attach(1, W::nvme)) == Status::ok);
    CHECK(guest.send(Guest::map(1, 3, 20)) == Status::ok);
    CHECK(guest.world.nvme_host.held.size() == 1);
    CHECK(guest.send(Guest::map(1, 3, 20)) == Status::invalid);
    CHECK(guest.send(Guest::map(9, 3, 20)) == Status::no_entry);
    CHECK(guest.device->requests().statuses[static_cast<std::size_t>(Status::ok)] == 2);
}

TEST_CASE("a host maps before the used element is there, and unmaps, too") {
    Guest guest;
    REQUIRE(guest.send(Guest::attach(1, W::nvme)) == Status::ok);
    guest.driver[0].chain().readable(Guest::map(1, 3, 20)).writable(4).post();
    unsigned called = 0;
    guest.world.nvme_host.on_call = [&] {
        ++called;
        CHECK_FALSE(guest.driver[0].used());
    };
    guest.device->kick(0);
    CHECK(called == 1);
    CHECK(guest.driver[0].used());
    guest.world.nvme_host.on_call = nullptr; // the guest's end makes calls, too
}

TEST_CASE("a request in many pieces, or in an indirect table, is one request") {
    Guest guest;
    REQUIRE(guest.send(Guest::attach(1, W::nvme)) == Status::ok);
    const auto request = Guest::map(1, 3, 20);
    const auto bytes = std::as_bytes(std::span{&request, 1});
    const bool indirect = GENERATE(false, true);
    auto chain = guest.driver[0].chain();
    for (std::size_t i = 0; i < bytes.size(); i += 5)
        chain.readable(bytes.subspan(i, std::min<std::size_t>(5, bytes.size() - i)));
    const auto pieces = chain.writable(1).writable(2).writable(1).post(indirect);
    guest.device->kick(0);
    CHECK(guest.driver[0].used()->length == 4);
    CHECK(guest.driver.ram.get<std::uint8_t>(pieces[pieces.size() - 3].address) == 0);
    CHECK(guest.world.nvme_host.held.size() == 1);
}

TEST_CASE("what cannot be answered comes back empty, and the next request is served") {
    Guest guest;
    guest.driver[0].chain().readable(Guest::attach(1, W::nvme)).post();
    guest.driver[0].chain().readable(Guest::attach(1, W::nvme)).writable(3).post();
    guest.driver[0].chain().writable(64).post();
    guest.driver[0].chain().readable(std::string_view{"\x77nonsense"}).writable(64).post();
    guest.driver[0].chain().readable(std::string(5000, '\x03')).writable(4).post();
    guest.driver[0].chain().readable(Guest::attach(1, W::nvme)).writable(4).post();
    guest.device->kick(0);
    for (const unsigned expected : {0U, 0U, 0U, 0U, 4U, 4U})
        CHECK(guest.driver[0].used()->length == expected);
    CHECK(guest.device->counters().bad_requests == 4);
    CHECK(guest.device->requests().unknown == 4);
    CHECK(guest.world.report(W::nvme).domain == iommu::DomainId{1});
    CHECK(guest.driver.notifier.broken == 0);
}

TEST_CASE("a flood of requests is served in turns") {
    Guest guest;
    guest.driver.activate(*guest.device, accepted, {256, 64});
    REQUIRE(guest.send(Guest::attach(1, W::nvme)) == Status::ok);
    unsigned answered = 0;
    for (unsigned i = 0; i < 2000; ++i) {
        guest.driver[0].chain().readable(Guest::map(1, 100 + i, 20)).writable(4).post();
        guest.device->kick(0);
        while (guest.driver[0].used())
            ++answered;
    }
    CHECK(answered == 2000);
    CHECK(guest.world.mappings(1) == 2000);
}

TEST_CASE("a broken ring stops the IOMMU; endpoints stay as they are until the driver resets it") {
    Guest guest;
    REQUIRE(guest.send(Guest::attach(1, W::nvme)) == Status::ok);
    REQUIRE(guest.send(Guest::map(1, 3, 20)) == Status::ok);
    guest.driver[0].set_available_index(500);
    guest.device->kick(0);
    CHECK(guest.driver.notifier.broken == 1);
    CHECK(guest.world.nvme_host.held.size() == 1);
    guest.device->reset();
    CHECK(guest.world.nvme_host.held.empty());
    CHECK(guest.world.domains.domains().empty());
}

TEST_CASE("faults reach the driver with reason, access, endpoint and address") {
    Guest guest;
    const auto pieces = guest.driver[1].chain().writable(24).post();
    guest.driver[1].chain().writable(100).post();
    REQUIRE(guest.send(Guest::attach(1, W::disk)) == Status::ok);
    guest.provoke(0x123);
    REQUIRE(guest.send(Guest::typed(wire::Detach{{}, 1, W::disk.raw(), 0}, wire::Type::detach)) == Status::ok);
    guest.provoke(0x77, Access::read);
    CHECK(tests::run_until(guest.loop, [&] { return guest.device->faults_told() == 2; }));
    CHECK(guest.driver[1].used()->length == 24);
    CHECK(guest.driver[1].used()->length == 24);
    CHECK(guest.driver.notifier.used[1] >= 1);
    const auto record = guest.driver.ram.get<wire::FaultRecord>(pieces[0].address);
    CHECK(record.reason == 2);
    CHECK(record.flags == (wire::FaultRecord::flag_write | wire::FaultRecord::flag_address));
    CHECK(record.endpoint == W::disk.raw());
    CHECK(record.address == 0x123000);
    CHECK((record.zero == std::array<std::uint8_t, 3>{} && record.pasid == 0));
    const auto second = guest.driver.ram.get<wire::FaultRecord>(pieces[0].address + 32);
    CHECK((second.reason == 1 && second.flags == (wire::FaultRecord::flag_read | wire::FaultRecord::flag_address)));
}

TEST_CASE("faults nobody has a buffer for are dropped and counted, floods are bounded") {
    Guest guest;
    REQUIRE(guest.send(Guest::attach(1, W::disk)) == Status::ok);
    for (unsigned i = 0; i < 1000; ++i)
        guest.provoke(i);
    CHECK(tests::run_until(guest.loop, [&] { return guest.device->faults_dropped() == 1000; }));
    CHECK(guest.world.domains.faults().total() == 1000);
    guest.driver[1].chain().writable(8).post(); // too small
    guest.driver[1].chain().writable(24).post();
    guest.provoke(1);
    guest.provoke(2);
    CHECK(tests::run_until(guest.loop, [&] { return guest.device->faults_told() == 1; }));
    CHECK(guest.device->faults_dropped() == 1001);
    CHECK(guest.driver[1].used()->length == 0);
    CHECK(guest.driver[1].used()->length == 24);
    guest.device->reset();
    guest.provoke(3);
    CHECK(tests::run_until(guest.loop, [&] { return guest.device->faults_dropped() == 1002; }));
}

TEST_CASE("a whole device works behind the IOMMU: rings and buffers are addresses of its domain") {
    Guest guest;
    fakes::VirtioDriver driver{4 * MiB};
    iommu::Domains domains{driver.ram.memory, {}, false};
    const auto memory = domains.make_memory();
    const auto stay = *domains.add_endpoint(iommu::EndpointId{0x30}, "rng", *memory);
    const auto rng = *Entropy::create({}, guest.loop);
    driver.activate(*rng, feature::access_platform, {}, memory.get());
    driver[0].chain().writable(64).post();
    SECTION("with everything mapped") {
        REQUIRE(domains.attach(iommu::DomainId{1}, iommu::EndpointId{0x30}, false) == Status::ok);
        REQUIRE(domains.map(iommu::DomainId{1}, Iova{0}, Iova{4 * MiB - 1}, Gpa{0}, 3) == Status::ok);
        rng->kick(0);
        CHECK(driver[0].used()->length == 64);
        REQUIRE(domains.unmap(iommu::DomainId{1}, Iova{0}, Iova{4 * MiB - 1}) == Status::ok);
        driver[0].chain().writable(64).post();
        rng->kick(0);
        CHECK_FALSE(driver[0].used());
        CHECK(driver.notifier.broken == 1);
    }
    SECTION("with nothing mapped") {
        rng->kick(0);
        CHECK(driver.notifier.broken == 1);
    }
    CHECK(domains.faults().total() >= 1);
    rng->reset();
}

TEST_CASE("a vCPU's requests, the loop's faults and another thread's accesses go on at once") {
    Guest guest;
    for (unsigned i = 0; i < 32; ++i)
        guest.driver[1].chain().writable(24).post();
    REQUIRE(guest.send(Guest::attach(1, W::disk)) == Status::ok);
    std::atomic<bool> over{false};
    unsigned unanswered = 0;
    unsigned too_late = 0;
    std::jthread vcpu{[&] {
        const std::uint64_t room = guest.driver.ram.next;
        for (unsigned i = 0; i < 5000; ++i) {
            guest.driver.ram.next = room;
            unanswered += guest.ask(Guest::map(1, 5, 20)) != Status::ok;
            unanswered +=
                guest.ask(Guest::typed(wire::Unmap{{}, 1, 5 * page, 6 * page - 1, 0}, wire::Type::unmap)) != Status::ok;
            too_late += guest.world.reach(5).has_value();
        }
        over = true;
    }};
    std::jthread device{[&] {
        while (!over)
            guest.provoke(5);
    }};
    while (!over)
        tests::run_for(guest.loop, std::chrono::milliseconds{1});
    vcpu.join();
    device.join();
    CHECK(unanswered == 0);
    CHECK(too_late == 0);
    CHECK(guest.world.domains.faults().total() >= 5000);
    // On a busy machine the loop may not have run yet.
    CHECK(tests::run_until(guest.loop, [&] { return guest.device->faults_told() == 32; }));
}

TEST_CASE("while the host pins for a request the loop goes on, and tells of a fault afterwards") {
    Guest guest;
    guest.driver[1].chain().writable(24).post();
    REQUIRE(guest.send(Guest::attach(1, W::nvme)) == Status::ok);
    REQUIRE(guest.send(Guest::attach(1, W::disk)) == Status::ok);
    constexpr std::chrono::seconds most{10};
    std::binary_semaphore pinning{0}, go_on{0};
    guest.world.nvme_host.on_call = [&] {
        pinning.release();
        (void)go_on.try_acquire_for(most);
    };
    std::optional<Status> answer;
    std::jthread vcpu{[&] { answer = guest.ask(Guest::map(1, 5, 20)); }};
    pinning.acquire();
    guest.provoke(0x77);
    const auto start = std::chrono::steady_clock::now();
    tests::run_for(guest.loop, std::chrono::milliseconds{20});
    CHECK(guest.device->active());
    CHECK(std::chrono::steady_clock::now() - start < most / 2);
    CHECK(guest.device->faults_told() == 0);
    go_on.release();
    vcpu.join();
    guest.world.nvme_host.on_call = nullptr;
    CHECK(answer == Status::ok);
    CHECK(tests::run_until(guest.loop, [&] { return guest.device->faults_told() == 1; }));
}

TEST_CASE("requests beyond a vCPU's turn are not the loop's: the host may pin for each") {
    Guest guest;
    REQUIRE(guest.send(Guest::attach(1, W::nvme)) == Status::ok);
    // The same two chains again and again map and unmap a page.
    guest.driver[0].chain().readable(Guest::map(1, 5, 20)).writable(4).post();
    guest.driver[0]
        .chain()
        .readable(Guest::typed(wire::Unmap{{}, 1, 5 * page, 6 * page - 1, 0}, wire::Type::unmap))
        .writable(4)
        .post();
    constexpr std::array<std::uint16_t, 2> heads{2, 4}; // after the attach request
    constexpr unsigned requests = 600;
    unsigned posted = 2;
    std::mutex mutex;
    std::set<pid_t> threads;              // an id of std::thread is used again
    guest.world.nvme_host.on_call = [&] { // another vCPU continues while the host works
        const std::lock_guard lock{mutex};
        threads.insert(::gettid());
        if (posted < requests)
            guest.driver[0].make_available(heads.at(posted++ % 2));
    };
    std::jthread{[&] { guest.device->kick(0); }}.join();
    CHECK(tests::run_until(guest.loop, [&] { return guest.device->requests().statuses[0] == 1 + requests; }));
    const std::lock_guard lock{mutex};
    guest.world.nvme_host.on_call = nullptr;
    CHECK(guest.world.nvme_host.maps + guest.world.nvme_host.unmaps == requests);
    CHECK(threads.size() == 2);
    CHECK_FALSE(threads.contains(::gettid()));
}

} // namespace inox::virtio_iommu_test
