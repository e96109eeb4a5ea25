"""The fused CPU kernels: C++17 with a C interface, built at first use and cached. Without a compiler nothing here is used."""
