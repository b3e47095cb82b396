"""HTTP. A command stores one row and starts one workflow; a query reads rows. Nothing else."""
