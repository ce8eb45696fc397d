// SPDX-License-Identifier: Apache-2.0
// Guest RAM is pinned in pieces, apart from the loop.
#include "devices/vfio/dma/pin_job.hpp"

#include <thread>

#include "tests/catch.hpp"
#include "tests/fakes/vfio_host.hpp"

namespace inox::vfio_pin_job_test {

using namespace inox::devices::vfio;

namespace {

struct Pinning : fakes::VfioHost {
    explicit Pinning(Backend kind) : backend{kind} {
        kernel.add("0000:01:00.0", 1, "vfio0");
        REQUIRE(session().add_ram(ram(0, 4 * MiB)));
        REQUIRE(session().add_ram(ram(4 * GiB, 8 * MiB)));
        device = open("0000:01:00.0", backend);
    }
    /// Does what another thread would do.
    Result<void> run(PinJob& job, const std::function<bool()>& stop_at = {}) {
        std::stop_source stop;
        kernel.on_map = [&] {
            if (stop_at && stop_at())
                stop.request_stop();
        };
        std::jthread{[&] { job.run(stop.get_token()); }}.join();
        kernel.on_map = nullptr;
        return session().end_map_guest(job);
    }
    [[nodiscard]] std::size_t mapped() { return kernel.mappings("0000:01:00.0")->size(); }

    Backend backend;
    std::unique_ptr<Device> device{};
};

} // namespace

#define BOTH_KINDS GENERATE(Backend::container, Backend::iommufd)

TEST_CASE("RAM pinned in pieces is 1:1 as if it had been mapped at once") {
    Pinning host{BOTH_KINDS};
    auto job = host.session().begin_map_guest(host.device->dma(), 1 * MiB);
    REQUIRE(job);
    REQUIRE(*job);
    CHECK(host.kernel.count("map") == 0);
    CHECK(host.session().memory().pinned() == 12 * MiB); // reserves that part of the limit
    REQUIRE(host.run(**job));
    CHECK(host.kernel.count("map") == 12);
    const auto& mappings = *host.kernel.mappings("0000:01:00.0");
    CHECK(mappings.at(3 * MiB).size == 1 * MiB);
    CHECK(mappings.at(4 * GiB + 7 * MiB).size == 1 * MiB);
    CHECK(host.session().begin_map_guest(host.device->dma()).value() == nullptr); // it is mapped already
    REQUIRE(host.session().add_ram(host.ram(8 * GiB, 1 * MiB)));                  // and stays up to date
    CHECK(host.mapped() == 13);
    host.device.reset();
    CHECK(host.session().memory().pinned() == 0);
}

TEST_CASE("pinning that is stopped ends after the piece it is at, and nothing stays pinned") {
    Pinning host{BOTH_KINDS};
    auto job = host.session().begin_map_guest(host.device->dma(), 1 * MiB);
    REQUIRE(job);
    const auto ended = host.run(**job, [count = 0]() mutable { return ++count == 3; });
    REQUIRE_FALSE(ended);
    CHECK(ended.error().code == Errc::wrong_state);
    CHECK(host.kernel.count("map") == 3);
    CHECK(host.mapped() == 0);
    CHECK(host.session().memory().pinned() == 0);
    CHECK(host.session().map_guest(host.device->dma()));
}

TEST_CASE("a piece that the host refuses undoes those before it") {
    Pinning host{BOTH_KINDS};
    host.kernel.rules.fail_next_maps = ENOMEM;
    host.kernel.rules.fail_after = 5;
    auto job = host.session().begin_map_guest(host.device->dma(), 1 * MiB);
    REQUIRE(job);
    const auto ended = host.run(**job);
    REQUIRE_FALSE(ended);
    CHECK(ended.error().code == Errc::no_resource);
    CHECK(host.mapped() == 0);
    CHECK(host.session().memory().pinned() == 0);
}

TEST_CASE("a job that never ran leaves nothing; one that cannot begin says why at once") {
    Pinning host{BOTH_KINDS};
    auto job = host.session().begin_map_guest(host.device->dma(), 1 * MiB);
    REQUIRE(job);
    CHECK_FALSE(host.session().end_map_guest(**job));
    CHECK(host.session().memory().pinned() == 0);
    CHECK(host.device->dma().mapping_count() == 0);

    fakes::VfioHost other;
    other.limit = LockLimit{1 * MiB};
    other.kernel.add("0000:01:00.0", 1, "vfio0");
    REQUIRE(other.session().add_ram(other.ram(0, 4 * MiB)));
    const auto device = other.open("0000:01:00.0", host.backend);
    const auto refused = other.session().begin_map_guest(device->dma());
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::no_resource);
    CHECK(device->dma().mapping_count() == 0);
}

TEST_CASE("RAM that the host does not have is refused before a piece of it is pinned") {
    Pinning host{BOTH_KINDS};
    host.kernel.tree.file("proc/meminfo", "MemTotal:       99999 kB\nMemAvailable:    8192 kB\n");
    auto job = host.session().begin_map_guest(host.device->dma(), 1 * MiB);
    REQUIRE(job);
    const auto ended = host.run(**job);
    REQUIRE_FALSE(ended);
    CHECK(ended.error().code == Errc::memory_unavailable);
    CHECK(host.kernel.count("map") == 0);
}

} // namespace inox::vfio_pin_job_test
