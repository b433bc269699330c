"""Tenancy and people. A comment that starts with `personal:` names the strategy of its anonymisation."""

from db.migrations.rules import execute, grant, isolate_tenants, touch_updated_at

revision = "0002"
down_revision = "0001"

_CRUD = "SELECT, INSERT, UPDATE, DELETE"

# What workers and readers may see: all but what opens an account or a medical record. Applications own both.
_READABLE = {
    "users": "id, tenant_id, facility_id, email, first_name, last_name, phone, locale, time_zone, status, "
    "last_login_at, last_login_ip, created_at, updated_at, deleted_at",
    "residents": "id, tenant_id, facility_id, first_name, last_name, date_of_birth, gender, phone, "
    "emergency_contact_name, emergency_contact_phone, wheelchair_type, requires_assistance, preferred_language, "
    "photo_url, gdpr_consent, gdpr_consent_at, created_at, updated_at, deleted_at",
}


def upgrade() -> None:
    execute(
        """
        CREATE TABLE tenants (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            slug text NOT NULL CONSTRAINT ck_tenants_slug CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
            name text NOT NULL,
            time_zone text NOT NULL DEFAULT 'UTC',
            locale text NOT NULL DEFAULT 'en',
            settings jsonb NOT NULL DEFAULT '{}',
            is_active boolean NOT NULL DEFAULT true,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            deleted_at timestamptz,
            CONSTRAINT uq_tenants_slug UNIQUE (slug)
        );

        -- A wrong zone would stop the tenant's mornings, so the server refuses it where it is written.
        CREATE FUNCTION check_time_zone() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_timezone_names WHERE name = NEW.time_zone) THEN
                RAISE EXCEPTION 'time_zone: not an IANA zone (% characters)', length(NEW.time_zone)
                    USING ERRCODE = 'check_violation';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER check_time_zone BEFORE INSERT OR UPDATE OF time_zone ON tenants
            FOR EACH ROW EXECUTE FUNCTION check_time_zone();

        CREATE TABLE facilities (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            tenant_id uuid NOT NULL REFERENCES tenants (id),
            name text NOT NULL,
            address text,
            latitude double precision CONSTRAINT ck_facilities_latitude CHECK (latitude BETWEEN -90 AND 90),
            longitude double precision CONSTRAINT ck_facilities_longitude CHECK (longitude BETWEEN -180 AND 180),
            time_zone text,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            deleted_at timestamptz,
            CONSTRAINT uq_facilities_tenant UNIQUE (tenant_id, id)
        );
        CREATE UNIQUE INDEX uq_facilities_name ON facilities (tenant_id, name) WHERE deleted_at IS NULL;

        CREATE TABLE users (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            tenant_id uuid NOT NULL REFERENCES tenants (id),
            facility_id uuid,
            email text NOT NULL,
            password_hash text,
            first_name text,
            last_name text,
            phone text,
            locale text,
            time_zone text,
            status text NOT NULL DEFAULT 'active'
                CONSTRAINT ck_users_status CHECK (status IN ('active', 'inactive', 'locked', 'pending_verification')),
            mfa_secret_encrypted bytea,
            last_login_at timestamptz,
            last_login_ip inet,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            deleted_at timestamptz,
            CONSTRAINT uq_users_tenant UNIQUE (tenant_id, id),
            FOREIGN KEY (tenant_id, facility_id) REFERENCES facilities (tenant_id, id)
        );
        CREATE UNIQUE INDEX uq_users_email ON users (tenant_id, lower(email)) WHERE deleted_at IS NULL;

        CREATE TABLE roles (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            name text NOT NULL CONSTRAINT uq_roles_name UNIQUE,
            description text,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now()
        );
        CREATE TABLE permissions (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            resource text NOT NULL,
            action text NOT NULL,
            description text,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT uq_permissions UNIQUE (resource, action)
        );
        CREATE TABLE role_permissions (
            role_id uuid NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
            permission_id uuid NOT NULL REFERENCES permissions (id) ON DELETE CASCADE,
            PRIMARY KEY (role_id, permission_id)
        );
        CREATE TABLE user_roles (
            tenant_id uuid NOT NULL,
            user_id uuid NOT NULL,
            role_id uuid NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
            assigned_at timestamptz NOT NULL DEFAULT now(),
            assigned_by uuid,
            PRIMARY KEY (user_id, role_id),
            FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id) ON DELETE CASCADE
        );
        CREATE INDEX ix_user_roles_tenant ON user_roles (tenant_id, user_id);

        CREATE TABLE drivers (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            tenant_id uuid NOT NULL REFERENCES tenants (id),
            user_id uuid,
            first_name text,
            last_name text,
            license_number text,
            license_expires_on date,
            phone text,
            status text NOT NULL DEFAULT 'active'
                CONSTRAINT ck_drivers_status CHECK (status IN ('active', 'on_leave', 'inactive', 'terminated')),
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            deleted_at timestamptz,
            CONSTRAINT uq_drivers_tenant UNIQUE (tenant_id, id),
            FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id)
        );
        CREATE UNIQUE INDEX uq_drivers_license ON drivers (tenant_id, license_number) WHERE deleted_at IS NULL;

        CREATE TABLE residents (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            tenant_id uuid NOT NULL REFERENCES tenants (id),
            facility_id uuid,
            first_name text,
            last_name text,
            date_of_birth date,
            gender text CONSTRAINT ck_residents_gender
                CHECK (gender IN ('male', 'female', 'non-binary', 'prefer-not-to-say')),
            phone text,
            emergency_contact_name text,
            emergency_contact_phone text,
            medical_notes_encrypted bytea,
            wheelchair_type text CONSTRAINT ck_residents_wheelchair
                CHECK (wheelchair_type IN ('manual', 'powered', 'transport_chair')),
            requires_assistance boolean NOT NULL DEFAULT false,
            preferred_language text NOT NULL DEFAULT 'en',
            photo_url text,
            gdpr_consent boolean NOT NULL DEFAULT false,
            gdpr_consent_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            deleted_at timestamptz,
            CONSTRAINT uq_residents_tenant UNIQUE (tenant_id, id),
            FOREIGN KEY (tenant_id, facility_id) REFERENCES facilities (tenant_id, id)
        );
        CREATE INDEX ix_residents_tenant ON residents (tenant_id, facility_id) WHERE deleted_at IS NULL;

        -- Destroying the key erases every copy of what it encrypted.
        CREATE TABLE person_keys (
            person_id uuid PRIMARY KEY,
            tenant_id uuid NOT NULL REFERENCES tenants (id),
            kind text NOT NULL CONSTRAINT ck_person_keys_kind CHECK (kind IN ('user', 'driver', 'resident')),
            wrapped_key bytea,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            destroyed_at timestamptz,
            CONSTRAINT ck_person_keys_destroyed CHECK ((wrapped_key IS NULL) = (destroyed_at IS NOT NULL))
        );
        CREATE INDEX ix_person_keys_tenant ON person_keys (tenant_id);

        COMMENT ON COLUMN users.email IS 'personal: keyed hash';
        COMMENT ON COLUMN users.password_hash IS 'personal: null';
        COMMENT ON COLUMN users.first_name IS 'personal: null';
        COMMENT ON COLUMN users.last_name IS 'personal: null';
        COMMENT ON COLUMN users.phone IS 'personal: null';
        COMMENT ON COLUMN users.mfa_secret_encrypted IS 'personal: drop key';
        COMMENT ON COLUMN users.last_login_ip IS 'personal: null';
        COMMENT ON COLUMN drivers.first_name IS 'personal: null';
        COMMENT ON COLUMN drivers.last_name IS 'personal: null';
        COMMENT ON COLUMN drivers.license_number IS 'personal: keyed hash';
        COMMENT ON COLUMN drivers.phone IS 'personal: null';
        COMMENT ON COLUMN residents.first_name IS 'personal: null';
        COMMENT ON COLUMN residents.last_name IS 'personal: null';
        COMMENT ON COLUMN residents.date_of_birth IS 'personal: generalise to year';
        COMMENT ON COLUMN residents.gender IS 'personal: null';
        COMMENT ON COLUMN residents.phone IS 'personal: null';
        COMMENT ON COLUMN residents.emergency_contact_name IS 'personal: null';
        COMMENT ON COLUMN residents.emergency_contact_phone IS 'personal: null';
        COMMENT ON COLUMN residents.medical_notes_encrypted IS 'personal: drop key';
        COMMENT ON COLUMN residents.wheelchair_type IS 'personal: null';
        COMMENT ON COLUMN residents.photo_url IS 'personal: null';
        COMMENT ON COLUMN residents.gdpr_consent IS 'personal: constant false';
        COMMENT ON COLUMN residents.gdpr_consent_at IS 'personal: null';
        """
    )
    isolate_tenants("tenants", column="id")
    grant("tenants", worker="SELECT", app="SELECT")
    for table in ("facilities", "users", "drivers", "residents", "person_keys"):
        touch_updated_at(table)
        isolate_tenants(table)
    touch_updated_at("tenants")
    touch_updated_at("roles")
    touch_updated_at("permissions")
    isolate_tenants("user_roles")
    for table in ("facilities", "user_roles", "drivers"):
        grant(table, worker="SELECT", app=_CRUD)
    for table, columns in _READABLE.items():
        execute(
            f"""
            GRANT SELECT ({columns}) ON {table} TO fleet_worker, fleet_readonly;
            GRANT {_CRUD} ON {table} TO fleet_app, fleet_system;
            """
        )
    grant("person_keys", worker="SELECT, INSERT, UPDATE", app="")
    for table in ("roles", "permissions", "role_permissions"):
        grant(table, worker="SELECT", app="SELECT")
