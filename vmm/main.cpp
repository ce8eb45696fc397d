#include "vmm/machine/run.hpp"
#include <cstring>
#include <cstdlib>
int main(int argc, char** argv) {
    vmm::Timeline t; t.mark(vmm::Timeline::Step::process_started);
    vmm::Config c; vmm::RunOptions o;
    for (int i = 2; i + 1 < argc; i += 2) {
        std::string k = argv[i], v = argv[i + 1];
        if (k == "--kernel") c.boot.kernel = v; else if (k == "--initrd") c.boot.initrd = v; else if (k == "--cmdline") c.boot.cmdline = v;
        else if (k == "--cpus") c.machine.cpus = unsigned(atoi(v.c_str())); else if (k == "--memory") c.machine.memory = strtoull(v.c_str(), 0, 10) << 20;
        else if (k == "--timeout") o.timeout = std::chrono::milliseconds(v.ends_with("ms") ? atoi(v.c_str()) : 1000 * atoi(v.c_str()));
        else if (k == "--expect") o.expect = v; else if (k == "--serial-log") o.serial_log = v; else if (k == "--boot-timeline") o.boot_timeline = v;
    }
    t.mark(vmm::Timeline::Step::config_read);
    return vmm::run(c, o, t);
}
