// SPDX-License-Identifier: Apache-2.0
// Real devices are added to and removed from a whole platform, and what the process holds is counted.
#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/catch.hpp"
#include "tests/fakes/disk.hpp"
#include "tests/fakes/platform_bench.hpp"
#include "tests/support/registers.hpp"
#include "tests/support/run_loop.hpp"

namespace inox::machine_hotplug_test {

namespace {

constexpr std::uint64_t added_port = 0x610;
constexpr std::uint64_t eject_port = 0x618;

struct Holdings {
    std::ptrdiff_t descriptors{};
    std::ptrdiff_t mappings{};
    bool operator==(const Holdings&) const = default;

    static Holdings now() {
        std::ifstream maps{"/proc/self/maps"};
        return {std::distance(std::filesystem::directory_iterator{"/proc/self/fd"}, {}),
                std::count(std::istreambuf_iterator<char>{maps}, {}, '\n')};
    }
};

struct Bench : fakes::PlatformBench {
    explicit Bench(const Config& config = {}) : PlatformBench{config} {}

    /// The guest's part: reads which devices are new, and ejects those that it is asked for.
    void eject(std::uint32_t slots) {
        (void)tests::in<std::uint32_t>(ports, added_port);
        tests::out<std::uint32_t>(ports, eject_port, slots);
        tests::turn(loop);
    }
};

DriveConfig drive(const std::string& id, const std::string& path) {
    DriveConfig config;
    config.block.id = id;
    config.block.path = path;
    return config;
}

} // namespace

TEST_CASE("hot-plug: ten times each kind of device, asked back or by force, leave nothing behind") {
    fakes::TempImage image{1 * MiB};
    const std::string uds = image.path() + ".vsock";
    const std::vector<DeviceConfig> devices{drive("data", image.path()),
                                            devices::virtio::VsockOptions{.guest_cid = 3, .uds_path = uds},
                                            devices::virtio::EntropyOptions{}, devices::virtio::BalloonOptions{}};
    const bool forced = GENERATE(false, true);
    Bench bench;
    const auto own_lines = bench.irqs.lines.size();
    Holdings before;
    for (unsigned turn = 0; turn < 11; ++turn) {
        if (turn == 1) // the first turn may fill the allocator's pools
            before = Holdings::now();
        std::uint32_t slots = 0;
        for (const DeviceConfig& device : devices) {
            const auto added = bench.platform->add(device);
            REQUIRE(added);
            slots |= 1U << added->address->slot;
        }
        CHECK(bench.platform->table().list().size() == devices.size());
        CHECK(Holdings::now().descriptors > before.descriptors);
        for (const DeviceConfig& device : devices)
            REQUIRE(bench.platform->table().remove(device_name(device), forced ? Removal::forced : Removal::asked));
        bench.eject(slots);
        REQUIRE(bench.platform->table().list().empty());
        REQUIRE(tests::run_until(bench.loop, [&] { return bench.platform->table().settled(); }));
        CHECK_FALSE(std::filesystem::exists(uds));
        CHECK(bench.doorbells.bells->empty());
        CHECK(std::ranges::none_of(bench.irqs.vectors, [](const auto& vector) { return vector->alive; }));
        bench.irqs.lines.resize(own_lines); // what the fakes recorded holds descriptors, too
        bench.irqs.vectors.clear();
    }
    tests::turn(bench.loop);
    const Holdings after = Holdings::now();
    CHECK(after.descriptors == before.descriptors);
    CHECK(after.mappings < before.mappings + 10); // the allocator may need one or two
    CHECK(bench.told.size() == 11 * devices.size() * (forced ? 2 : 3));
}

TEST_CASE("hot-plug: a second device of the same name is refused and opens nothing") {
    fakes::TempImage image{1 * MiB};
    fakes::TempImage other{1 * MiB};
    Config config;
    put_device(config, drive("data", image.path()));
    Bench bench{config};
    const auto before = Holdings::now();
    const auto added = bench.platform->add(drive("data", other.path()));
    REQUIRE_FALSE(added);
    CHECK(added.error().code == Errc::already_exists);
    CHECK(Holdings::now() == before);
    CHECK(bench.told.empty());
}

TEST_CASE("hot-plug: a device that cannot be opened is refused, and the machine is as before") {
    Bench bench;
    const auto before = Holdings::now();
    CHECK(bench.platform->add(drive("data", "/nowhere/at/all")).error().code == Errc::disk_missing);
    CHECK(bench.platform->table().list().empty());
    CHECK(Holdings::now() == before);
}

namespace {

struct Later : Bench {
    using Bench::Bench;
    void add(const DeviceConfig& device) {
        platform->add_later(device, [this](Result<DeviceStatus> status) { answers.push_back(std::move(status)); });
    }
    std::vector<Result<DeviceStatus>> answers{};
};

} // namespace

TEST_CASE("hot-plug: devices are opened beside the loop, one after the other, and shown on it") {
    fakes::TempImage image{1 * MiB};
    fakes::TempImage other{2 * MiB};
    Later bench;
    bench.add(drive("data", image.path()));
    bench.add(drive("data", other.path()));
    bench.add(drive("none", "/nowhere/at/all"));
    bench.add(devices::virtio::EntropyOptions{});
    CHECK(bench.answers.empty());
    CHECK(bench.platform->table().list().empty());
    REQUIRE(tests::run_until(bench.loop, [&] { return bench.answers.size() == 4; }));
    CHECK(bench.answers[0]);
    CHECK(bench.answers[1].error().code == Errc::already_exists);
    CHECK(bench.answers[2].error().code == Errc::disk_missing);
    CHECK(bench.answers[3]);
    CHECK(bench.platform->table().list().size() == 2);

    std::vector<Result<void>> replaced;
    const auto replace = [&](const std::string& path) {
        bench.platform->replace_image(bench.platform->disk("data"), path,
                                      [&](Result<void> done) { replaced.push_back(std::move(done)); });
    };
    replace(other.path());
    replace("/nowhere/at/all");
    replace(other.path()); // the same: its size is looked at again
    CHECK(replaced.empty());
    REQUIRE(tests::run_until(bench.loop, [&] { return replaced.size() == 3; }));
    CHECK(replaced[0]);
    CHECK(replaced[1].error().code == Errc::disk_missing);
    CHECK(replaced[2]);
    CHECK(bench.platform->disk("data")->options().path == other.path());
}

TEST_CASE("hot-plug: a machine that ends answers for what was to come") {
    fakes::TempImage image{1 * MiB};
    Later bench;
    bench.add(drive("data", image.path()));
    bench.add(devices::virtio::EntropyOptions{});
    bench.platform->stop();
    REQUIRE(bench.answers.size() == 2);
    bench.add(devices::virtio::EntropyOptions{});
    REQUIRE(bench.answers.size() == 3);
    for (const auto& answer : bench.answers)
        CHECK(answer.error().code == Errc::wrong_state);
    tests::turn(bench.loop);
    CHECK(bench.platform->table().list().empty());
}

TEST_CASE("hot-plug: the root disk and the console stay") {
    fakes::TempImage image{1 * MiB};
    Config config;
    auto root = drive("root", image.path());
    root.root = true;
    config.devices = {root, ConsoleConfig{}};
    Bench bench{config};
    REQUIRE(bench.platform->table().list().size() == 2);
    for (const auto& device : bench.platform->table().list())
        CHECK(bench.platform->table().remove(device.name, Removal::forced).error().code == Errc::wrong_state);
}

TEST_CASE("hot-plug: devices are found by name for changes, until they leave") {
    fakes::TempImage image{1 * MiB};
    Bench bench;
    REQUIRE(bench.platform->add(drive("data", image.path())));
    REQUIRE(bench.platform->disk("data"));
    std::array<std::byte, 8> sectors{}; // where a disk's configuration begins
    bench.platform->disk("data")->read_config(0, sectors);
    CHECK(load_le(sectors) == 1 * MiB / 512);
    CHECK(bench.platform->net("data") == nullptr);
    CHECK(bench.platform->balloon() == nullptr);
    REQUIRE(bench.platform->table().remove({kind_of<DriveConfig>, "data"}, Removal::forced));
    CHECK(bench.platform->disk("data") == nullptr);
}

TEST_CASE("hot-plug: with virtio-mmio a machine is full with what it starts with") {
    fakes::TempImage image{1 * MiB};
    fakes::TempImage other{1 * MiB};
    Config config;
    config.machine.transport = Transport::mmio;
    put_device(config, drive("data", image.path()));
    Bench bench{config};
    CHECK(bench.platform->table().list().size() == 1);
    CHECK(bench.platform->disk("data") != nullptr);
    CHECK(bench.platform->add(drive("more", other.path())).error().code == Errc::no_resource);
    CHECK(bench.platform->table().remove({kind_of<DriveConfig>, "data"}, Removal::asked).error().code ==
          Errc::wrong_state);
}

} // namespace inox::machine_hotplug_test
