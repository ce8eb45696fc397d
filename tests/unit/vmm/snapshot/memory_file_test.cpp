// SPDX-License-Identifier: Apache-2.0
#include "vmm/snapshot/memory_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/catch.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::memory_file_test {
namespace {

constexpr std::uint64_t size = 160 * MiB; // three pieces
const Gpa hole{96 * MiB};

UniqueFd new_file() { return UniqueFd{::memfd_create("snapshot", MFD_CLOEXEC)}; }

GuestMemory guest(HugePages pages, GuestMemory::Sharing sharing) {
    auto memory = GuestMemory::create(size, pages, sharing, hole);
    REQUIRE(memory);
    for (const std::uint64_t at : {0x1000ULL, 1ULL * MiB, 70ULL * MiB, 96ULL * MiB - 8})
        REQUIRE(memory->write(Gpa{at}, at + 1));
    REQUIRE(memory->write(layout::ram_above_hole + 5 * MiB, std::uint64_t{42}));
    return std::move(*memory);
}

snapshot::MemoryContents save(const GuestMemory& memory, int file, const snapshot::MemoryId& id,
                              snapshot::Pages which = snapshot::Pages::all) {
    const std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> done{0};
    auto written = snapshot::write_memory(file, memory, snapshot::page_map(), id, which, stop, done);
    REQUIRE(written);
    CHECK(done == size);
    return std::move(*written);
}

UniqueFd again(const UniqueFd& file) { return UniqueFd{::fcntl(file.get(), F_DUPFD_CLOEXEC, 0)}; }

void check_contents(const GuestMemory& memory) {
    for (const std::uint64_t at : {0x1000ULL, 1ULL * MiB, 70ULL * MiB, 96ULL * MiB - 8})
        CHECK(memory.read<std::uint64_t>(Gpa{at}) == at + 1);
    CHECK(memory.read<std::uint64_t>(layout::ram_above_hole + 5 * MiB) == 42);
    CHECK(memory.read<std::uint64_t>(Gpa{2 * MiB}) == 0);
}

} // namespace

TEST_CASE("memory is saved with holes, and goes on from a mapping or a copy of the file") {
    const auto pages = GENERATE(HugePages::none, HugePages::transparent);
    const auto sharing = GENERATE(GuestMemory::Sharing::unneeded, GuestMemory::Sharing::needed);
    const auto memory = guest(pages, sharing);
    const auto id = snapshot::new_memory_id();
    const auto file = new_file();
    const auto contents = save(memory, file.get(), id);
    struct stat status {};
    REQUIRE(::fstat(file.get(), &status) == 0);
    CHECK(status.st_size == static_cast<off_t>(size));
    CHECK(status.st_blocks * 512 < static_cast<off_t>(1 * MiB));
    CHECK(contents.stored == 6 * page_size); // five, and the one with the id
    CHECK(contents.sums.size() == 3);
    CHECK(snapshot::check_memory(file.get(), size, id, "memory"));
    const auto sums = snapshot::read_sums(file.get(), size);
    REQUIRE(sums);
    CHECK(sums->sums == contents.sums);
    CHECK(sums->stored == contents.stored);

    auto restored = GuestMemory::restore(size, pages, sharing, hole, again(file));
    REQUIRE(restored);
    CHECK(restored->shared() == (sharing == GuestMemory::Sharing::needed));
    check_contents(*restored);
    // What is given back reads as zero, and the file stays as it is
    const auto page = restored->host(Gpa{70 * MiB}, page_size);
    REQUIRE(page);
    CHECK(restored->discard(*page));
    CHECK(restored->read<std::uint64_t>(Gpa{70 * MiB}) == 0);
    REQUIRE(restored->write(Gpa{1 * MiB}, std::uint64_t{7}));
    const auto unchanged = snapshot::read_sums(file.get(), size);
    REQUIRE(unchanged);
    CHECK(unchanged->sums == contents.sums);
    // A second generation has what was changed, discarded, and never touched
    const auto second = new_file();
    static_cast<void>(save(*restored, second.get(), id));
    auto grandchild = GuestMemory::restore(size, pages, sharing, hole, again(second));
    REQUIRE(grandchild);
    CHECK(grandchild->read<std::uint64_t>(Gpa{1 * MiB}) == 7);
    CHECK(grandchild->read<std::uint64_t>(Gpa{70 * MiB}) == 0);
    CHECK(grandchild->read<std::uint64_t>(Gpa{0x1000}) == 0x1001);
}

TEST_CASE("memory of another snapshot, another size and a damaged one are told apart") {
    const auto memory = guest(HugePages::transparent, GuestMemory::Sharing::unneeded);
    const auto id = snapshot::new_memory_id();
    const auto file = new_file();
    const auto contents = save(memory, file.get(), id);
    const auto other = snapshot::check_memory(file.get(), size, snapshot::new_memory_id(), "memory");
    REQUIRE_FALSE(other);
    CHECK(other.error().code == Errc::snapshot_invalid);
    CHECK(other.error().what.contains("another snapshot"));
    REQUIRE(::pwrite(file.get(), "x", 1, 130 * MiB) == 1);
    const auto damaged = snapshot::read_sums(file.get(), size);
    REQUIRE(damaged);
    CHECK(damaged->sums[0] == contents.sums[0]);
    CHECK(damaged->sums[2] != contents.sums[2]);
    REQUIRE(::ftruncate(file.get(), static_cast<off_t>(size - page_size)) == 0);
    CHECK_FALSE(snapshot::check_memory(file.get(), size, id, "memory"));
    CHECK_FALSE(snapshot::read_sums(file.get(), size).value_or(contents).sums == contents.sums);
}

TEST_CASE("a chain of Diffs becomes what one whole snapshot is") {
    using snapshot::Pages;
    const auto which = GENERATE(Pages::touched, Pages::written);
    const auto pages = GENERATE(HugePages::none, HugePages::transparent);
    const bool restored = GENERATE(false, true);
    auto memory = guest(pages, GuestMemory::Sharing::unneeded);
    memory.dirty().track(which == Pages::written);
    auto id = snapshot::new_memory_id();
    auto base = new_file();
    static_cast<void>(save(memory, base.get(), id));
    memory.dirty().clear();
    if (restored) {
        auto again_mapped = GuestMemory::restore(size, pages, GuestMemory::Sharing::unneeded, hole, again(base));
        REQUIRE(again_mapped);
        memory = std::move(*again_mapped);
        memory.dirty().track(which == Pages::written);
    }
    for (unsigned turn = 1; turn <= 5; ++turn) {
        REQUIRE(memory.write(Gpa{turn * 10 * MiB}, std::uint64_t{turn}));            // new
        REQUIRE(memory.write(Gpa{1 * MiB + turn * page_size}, std::uint64_t{turn})); // beside what is there
        REQUIRE(memory.write(layout::ram_above_hole + turn * MiB, std::uint64_t{turn}));
        if (turn == 2) // becomes zero, and then nothing
            REQUIRE(memory.write(Gpa{0x1000}, std::uint64_t{0}));
        if (turn == 3)
            REQUIRE(memory.discard(*memory.host(Gpa{70 * MiB}, page_size)));
        id = snapshot::new_memory_id();
        const auto diff = new_file();
        const auto contents = save(memory, diff.get(), id, which);
        memory.dirty().clear();
        CHECK(contents.diff);
        if (which == Pages::written)
            CHECK(contents.stored == (turn == 2 || turn == 3 ? 5 : 4) * page_size); // three, and the one with the id
        auto merged = new_file();
        const auto whole = snapshot::merge_memory(base.get(), diff.get(), contents, merged.get());
        REQUIRE(whole);
        base = std::move(merged);
        CHECK(snapshot::check_memory(base.get(), size, id, "memory"));
        const auto full = new_file();
        const auto expected = save(memory, full.get(), id);
        CHECK(whole->sums == expected.sums);
        CHECK(whole->stored == expected.stored);
        // A damaged Diff is not merged
        REQUIRE(::pwrite(diff.get(), "x", 1, static_cast<off_t>(turn * 10 * MiB + 9)) == 1);
        const auto refused = snapshot::merge_memory(base.get(), diff.get(), contents, new_file().get());
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == Errc::snapshot_invalid);
    }
}

TEST_CASE("a Diff over a copy of its base is what a merge makes of them") {
    auto memory = guest(HugePages::transparent, GuestMemory::Sharing::unneeded);
    memory.dirty().track(true);
    const auto file = new_file();
    static_cast<void>(save(memory, file.get(), snapshot::new_memory_id()));
    memory.dirty().clear();
    REQUIRE(memory.write(Gpa{1 * MiB}, std::uint64_t{0}));
    const auto id = snapshot::new_memory_id();
    REQUIRE(snapshot::write_id(file.get(), id));
    static_cast<void>(save(memory, file.get(), id, snapshot::Pages::written));
    const auto full = new_file();
    const auto expected = save(memory, full.get(), id);
    const auto found = snapshot::read_sums(file.get(), size);
    REQUIRE(found);
    CHECK(found->sums == expected.sums);
}

TEST_CASE("a snapshot that is given up stops writing") {
    const auto memory = guest(HugePages::transparent, GuestMemory::Sharing::unneeded);
    const std::atomic<bool> stop{true};
    std::atomic<std::uint64_t> done{0};
    const auto file = new_file();
    const auto written = snapshot::write_memory(file.get(), memory, -1, {}, snapshot::Pages::all, stop, done);
    REQUIRE_FALSE(written);
    CHECK(written.error().code == Errc::wrong_state);
}

} // namespace inox::memory_file_test
