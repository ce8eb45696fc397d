// SPDX-License-Identifier: Apache-2.0
// A host that takes long to open, pin, unpin and close assigned devices: the loop goes on meanwhile.
#include <algorithm>
#include <array>
#include <set>
#include <thread>

#include "tests/catch.hpp"
#include "tests/fakes/platform_bench.hpp"
#include "tests/fakes/vfio_kernel.hpp"
#include "tests/support/registers.hpp"
#include "tests/support/run_loop.hpp"

namespace inox::machine_assigned_slow_test {

using devices::vfio::Backend;
using namespace std::chrono_literals;

namespace {

constexpr auto slow = 60ms;
constexpr std::array slow_calls{"open",      "set_container", "set_iommu",  "device_fd", "map_dma",
                                "unmap_dma", "bind_iommufd",  "ioas_alloc", "attach",    "detach",
                                "ioas_map",  "ioas_unmap",    "destroy",    "reset",     "hot_reset"};
constexpr std::uint64_t eject_port = 0x618;

VfioConfig assigned(const std::string& id, const std::string& host, Backend backend) {
    VfioConfig config;
    config.open = {id, host, backend, {}, {}};
    return config;
}

struct Bench : fakes::PlatformBench {
    fakes::VfioKernel kernel{};
    std::unique_ptr<iommu::Domains> domains{};
    std::set<std::string> on_loop{}; ///< slow calls that were made on the loop
    std::vector<Result<DeviceStatus>> answers{};

    explicit Bench(bool behind_iommu) {
        kernel.add("0000:01:00.0", 1, "vfio1");
        kernel.add("0000:02:00.0", 2, "vfio2");
        if (behind_iommu)
            domains = std::make_unique<iommu::Domains>(memory, iommu::Limits{}, true);
        start({}, {.iommu = domains.get(), .vfio_kernel = &kernel, .vfio_root = kernel.tree.root()});
        kernel.on_call = [this, loop_thread = std::this_thread::get_id()](const char* name) {
            if (std::ranges::find(slow_calls, std::string_view{name}) == slow_calls.end())
                return;
            if (std::this_thread::get_id() == loop_thread)
                on_loop.insert(name);
            std::this_thread::sleep_for(slow);
        };
    }
    ~Bench() {
        platform.reset();
        kernel.on_call = nullptr;
    }
    Bench(const Bench&) = delete;
    Bench& operator=(const Bench&) = delete;

    /// Runs the loop until `done`, and checks that it never waits for the thread: no pause takes most of the time.
    void run(const std::function<bool()>& done) {
        const auto start = std::chrono::steady_clock::now();
        auto before = start;
        std::chrono::steady_clock::duration longest{};
        REQUIRE(tests::run_until(
            loop,
            [&] {
                const auto now = std::chrono::steady_clock::now();
                longest = std::max(longest, now - std::exchange(before, now));
                return done();
            },
            60s));
        CHECK(longest < std::max<std::chrono::steady_clock::duration>(5 * slow, (before - start) * 4 / 5));
    }
    void add(const std::string& id, const std::string& host, Backend backend) {
        platform->add_later(assigned(id, host, backend),
                            [this](Result<DeviceStatus> status) { answers.push_back(std::move(status)); });
    }
};

} // namespace

TEST_CASE("while a host opens, pins, unpins and closes an assigned device slowly the loop answers") {
    const auto backend = GENERATE(Backend::container, Backend::iommufd);
    const bool behind_iommu = GENERATE(false, true);
    const bool forced = GENERATE(false, true);
    CAPTURE(static_cast<int>(backend), behind_iommu, forced);
    Bench bench{behind_iommu};

    bench.add("nic", "0000:01:00.0", backend);
    bench.run([&] { return !bench.answers.empty(); });
    REQUIRE(bench.answers.size() == 1);
    REQUIRE(bench.answers[0]);
    CHECK(bench.kernel.mappings("0000:01:00.0")->size() == 1); // the device reaches all memory already
    const auto slot = bench.answers[0]->address->slot;

    REQUIRE(bench.platform->table().remove({kind_of<VfioConfig>, "nic"}, forced ? Removal::forced : Removal::asked));
    tests::out<std::uint32_t>(bench.ports, eject_port, 1U << slot);
    bench.run([&] { return bench.kernel.open_files() == 0; });
    CHECK(bench.kernel.rules.locked == 0);
    CHECK(bench.on_loop == std::set<std::string>{});
}

TEST_CASE("an assigned device that comes back at once finds itself closed, and its slot is its own meanwhile") {
    const bool behind_iommu = GENERATE(false, true);
    Bench bench{behind_iommu};
    bench.add("nic", "0000:01:00.0", Backend::iommufd);
    bench.run([&] { return !bench.answers.empty(); });
    REQUIRE(bench.answers[0]);
    REQUIRE(bench.platform->table().remove({kind_of<VfioConfig>, "nic"}, Removal::forced));
    bench.add("nic", "0000:01:00.0", Backend::iommufd);
    const auto other = bench.platform->add(devices::virtio::EntropyOptions{});
    REQUIRE(other);
    bench.run([&] { return bench.answers.size() == 2; });
    REQUIRE(bench.answers[1]);
    CHECK(bench.answers[1]->address != other->address);
    CHECK(bench.on_loop == std::set<std::string>{});
}

TEST_CASE("a machine that ends while an assigned device is opened closes what was opened, and answers") {
    Bench bench{false};
    bench.add("nic", "0000:01:00.0", Backend::iommufd);
    tests::turn(bench.loop);
    bench.platform->stop();
    REQUIRE(bench.answers.size() == 1);
    CHECK(bench.answers[0].error().code == Errc::wrong_state);
    bench.add("other", "0000:02:00.0", Backend::iommufd);
    REQUIRE(bench.answers.size() == 2);
    CHECK(bench.answers[1].error().code == Errc::wrong_state);
    bench.kernel.on_call = nullptr;
    CHECK(bench.kernel.open_files() == 0);
}

} // namespace inox::machine_assigned_slow_test
