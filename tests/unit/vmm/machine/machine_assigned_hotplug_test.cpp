// SPDX-License-Identifier: Apache-2.0
// Assigned devices that are added to a running machine: memory is pinned on a thread, and everything else goes on.
#include <semaphore>

#include "tests/catch.hpp"
#include "tests/fakes/platform_bench.hpp"
#include "tests/fakes/vfio_kernel.hpp"
#include "tests/support/run_loop.hpp"

namespace inox::machine_assigned_hotplug_test {

using devices::vfio::Backend;

namespace {

VfioConfig assigned(const std::string& id, const std::string& host) {
    VfioConfig config;
    config.open = {id, host, Backend::container, {}, {}};
    return config;
}

struct Bench : fakes::PlatformBench {
    fakes::VfioKernel kernel{};
    std::counting_semaphore<16> pinning{0}; ///< released when the kernel is asked to pin
    std::counting_semaphore<16> go_on{0};   ///< acquired before it pins
    std::vector<std::pair<std::string, Result<DeviceStatus>>> answers{};

    Bench() {
        kernel.add("0000:01:00.0", 1);
        kernel.add("0000:02:00.0", 2);
        kernel.on_map = [this] {
            pinning.release();
            go_on.acquire();
        };
        start({}, {.vfio_kernel = &kernel, .vfio_root = kernel.tree.root()});
    }
    ~Bench() {
        go_on.release();
        platform.reset();
    }
    Bench(const Bench&) = delete;
    Bench& operator=(const Bench&) = delete;

    void add(const std::string& id, const std::string& host) {
        platform->add_later(assigned(id, host),
                            [this, id](Result<DeviceStatus> status) { answers.emplace_back(id, std::move(status)); });
    }
    bool run(const std::function<bool()>& done) { return tests::run_until(loop, done, std::chrono::seconds{20}); }
    [[nodiscard]] bool there(const std::string& id) const {
        return std::ranges::any_of(platform->table().list(), [&](const auto& one) { return one.name.id == id; });
    }
};

} // namespace

TEST_CASE(
    "while memory is pinned for a device the loop, timers and other devices go on; the answer comes with the device") {
    Bench bench;
    bench.add("nic", "0000:01:00.0");
    bench.pinning.acquire(); // the host is pinning
    CHECK(bench.answers.empty());
    CHECK_FALSE(bench.there("nic"));
    bool fired = false;
    const auto timer = bench.loop.after(std::chrono::milliseconds{1}, [&] { fired = true; });
    CHECK(bench.run([&] { return fired; }));
    CHECK(bench.platform->add(devices::virtio::EntropyOptions{}));
    CHECK(bench.platform->add(DeviceConfig{assigned("nic", "0000:02:00.0")}).error().code == Errc::already_exists);
    CHECK(bench.answers.empty());
    bench.go_on.release();
    REQUIRE(bench.run([&] { return !bench.answers.empty(); }));
    REQUIRE(bench.answers[0].second);
    CHECK(bench.there("nic"));
    CHECK(bench.kernel.mappings("0000:01:00.0")->size() == 1);
    CHECK(bench.told.back().device.name.id == "nic");
}

TEST_CASE("a second device waits for the first, and comes after it") {
    Bench bench;
    bench.add("one", "0000:01:00.0");
    bench.add("two", "0000:02:00.0");
    bench.pinning.acquire();
    CHECK(bench.kernel.count("set_iommu") == 1);
    bench.go_on.release();
    REQUIRE(bench.run([&] { return bench.there("one"); }));
    bench.pinning.acquire();
    bench.go_on.release();
    REQUIRE(bench.run([&] { return bench.answers.size() == 2; }));
    CHECK(bench.answers[1].first == "two");
    CHECK(bench.answers[1].second);
}

TEST_CASE("a device that is removed while its memory is pinned is answered at once and leaves nothing") {
    Bench bench;
    bench.add("one", "0000:01:00.0");
    bench.add("two", "0000:02:00.0");
    bench.pinning.acquire();
    const bool waiting = GENERATE(false, true); // the one to cancel is the second, which has not begun
    REQUIRE(bench.platform->cancel({kind_of<VfioConfig>, waiting ? "two" : "one"}));
    CHECK_FALSE(bench.platform->cancel({kind_of<VfioConfig>, waiting ? "two" : "one"}));
    REQUIRE(bench.answers.size() == 1);
    CHECK(bench.answers[0].second.error().code == Errc::wrong_state);
    bench.go_on.release();
    if (!waiting) {
        REQUIRE(bench.run([&] { return bench.kernel.count("set_iommu") == 2; })); // it is the other device's turn
        bench.pinning.acquire();
        bench.go_on.release();
    }
    REQUIRE(bench.run([&] { return bench.answers.size() == 2; }));
    CHECK(bench.answers[1].second);
    CHECK(bench.there(waiting ? "one" : "two"));
    CHECK(bench.kernel.open_files() == 3);
    CHECK(bench.kernel.rules.locked == bench.memory.size());
}

TEST_CASE("a machine that ends while memory is pinned waits for the piece at hand only, and answers") {
    Bench bench;
    bench.add("one", "0000:01:00.0");
    bench.add("two", "0000:02:00.0");
    bench.pinning.acquire();
    bench.go_on.release(); // the piece that was begun is finished
    bench.platform->stop();
    REQUIRE(bench.answers.size() == 2);
    for (const auto& [id, status] : bench.answers)
        CHECK(status.error().code == Errc::wrong_state);
    tests::turn(bench.loop);
    CHECK_FALSE(bench.there("one"));
    CHECK(bench.kernel.open_files() == 0);
    CHECK(bench.kernel.rules.locked == 0);
}

TEST_CASE("what stands in a device's way is answered") {
    Bench bench;
    bench.add("none", "0000:09:00.0");
    REQUIRE(bench.run([&] { return bench.answers.size() == 1; }));
    CHECK(bench.answers[0].second.error().code == Errc::not_found);
    bench.platform->add_later(devices::virtio::EntropyOptions{}, [&](Result<DeviceStatus> status) {
        bench.answers.emplace_back("rng", std::move(status));
    });
    REQUIRE(bench.run([&] { return bench.answers.size() == 2; }));
    CHECK(bench.answers[1].second);
}

} // namespace inox::machine_assigned_hotplug_test
